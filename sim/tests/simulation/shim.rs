//! The shim: what production code gets under the name of tokio.

use std::time::Duration;

use madsim::Config;
use madsim::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout_at};

fn simulate<T: Send + 'static, F: Future<Output = T> + 'static>(
    seed: u64,
    body: impl FnOnce() -> F + Send + 'static,
) -> T {
    let run = move || Runtime::with_seed_and_config(seed, Config::default()).block_on(body());
    std::thread::spawn(run).join().expect("the body does not panic")
}

#[test]
fn an_unbiased_select_begins_where_the_seed_says() {
    let branches = |seed| {
        simulate(seed, || async {
            let mut chosen = Vec::new();
            for _ in 0..64 {
                tokio::select! {
                    () = async {} => chosen.push(0),
                    () = async {} => chosen.push(1),
                }
            }
            chosen
        })
    };
    assert_eq!(branches(7), branches(7));
    assert_ne!(branches(7), branches(8));
    assert!(branches(7).contains(&0) && branches(7).contains(&1));
}

#[test]
fn a_biased_select_begins_at_its_first_branch() {
    let chosen = simulate(7, || async {
        for _ in 0..64 {
            tokio::select! {
                biased;
                () = async {} => {}
                () = async {} => return 1,
            }
        }
        0
    });
    assert_eq!(chosen, 0);
}

#[test]
fn timeout_at_waits_until_its_deadline_and_no_longer() {
    let (early, late, waited) = simulate(7, || async {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(10);
        let early = timeout_at(deadline, sleep(Duration::from_secs(9))).await.is_ok();
        let late = timeout_at(deadline, sleep(Duration::from_secs(9))).await.is_ok();
        (early, late, began.elapsed())
    });
    assert!(early && !late);
    assert!((10_000..10_100).contains(&waited.as_millis()), "{waited:?}");
}
