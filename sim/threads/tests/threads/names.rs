//! Names that the simulation resolves.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use simulated_threads::Threads;

use crate::counter::{Counter, server};
use crate::harness::{address, machine, on, run, sleep_ms};

fn threads() -> Threads {
    Threads::current().expect("a simulation with threads")
}

#[test]
fn a_client_connects_by_a_name_and_follows_it_to_another_address() {
    run(21, || async {
        let first = server(1);
        server(3);
        threads().set_name("service", &[address(1)]);
        let client = machine(2);
        let counted = client.spawn(async {
            let work = || {
                let counter = Counter::open("Service");
                let before = counter.add(5, 10_000);
                std::thread::sleep(Duration::from_secs(1));
                // The connection has broken, and the name leads elsewhere.
                (before, counter.add(7, 60_000), counter.connections())
            };
            tokio::task::spawn_blocking(work).await.expect("no panic")
        });
        sleep_ms(500).await;
        threads().set_name("service", &[address(3)]);
        madsim::runtime::Handle::current().kill(first.id());
        assert_eq!(counted.await.expect("not killed"), (Some(5), Some(7), 2));
    });
}

#[test]
fn the_second_address_of_a_name_is_used_if_nobody_listens_at_the_first() {
    run(22, || async {
        machine(1);
        server(3);
        threads().set_name("service", &[address(1), address(3)]);
        assert_eq!(on(&machine(2), || Counter::open("service").add(5, 60_000)).await, Some(5));
    });
}

#[test]
fn an_unknown_name_and_name_servers_that_do_not_respond_are_different_errors_which_take_time() {
    run(23, || async {
        let node = machine(1);
        let resolve = || {
            let began = std::time::Instant::now();
            let error = "service:1".to_socket_addrs().expect_err("no such name").to_string();
            (error, began.elapsed())
        };
        let (unknown, took) = on(&node, resolve).await;
        assert!(unknown.contains("not known"), "{unknown}");
        assert!(took >= Duration::from_millis(1) && took < Duration::from_millis(2), "{took:?}");
        threads().set_names_available(false);
        let (unavailable, _) = on(&node, resolve).await;
        assert!(unavailable.contains("emporary failure"), "{unavailable}");
        threads().set_names_available(true);
        threads().set_name("service", &[address(3)]);
        let found = on(&node, || "service:1".to_socket_addrs().expect("a name").collect::<Vec<_>>()).await;
        assert_eq!(found, [std::net::SocketAddr::from((address(3), 1))]);
        threads().remove_name("service");
        assert_eq!(on(&node, resolve).await.0, unknown);
    });
}

#[test]
fn ipv6_is_refused_as_by_a_system_without_it() {
    run(24, || async {
        let (listening, connecting, resolving) = on(&machine(1), || {
            let listening = TcpListener::bind("[::1]:80").expect_err("no IPv6");
            let connecting = TcpStream::connect("[::1]:80").expect_err("no IPv6");
            let resolving = ("::1".to_owned() + ".", 80).to_socket_addrs().expect_err("no such name");
            (listening.raw_os_error(), connecting.raw_os_error(), resolving.kind())
        })
        .await;
        assert_eq!((listening, connecting), (Some(libc::EAFNOSUPPORT), Some(libc::EAFNOSUPPORT)));
        assert_ne!(resolving, ErrorKind::Unsupported);
    });
}
