//! Rust's standard library on threads of the simulation.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{machine, machine_with, on, run, sleep_ms};

#[test]
fn locks_conditions_channels_barriers_and_parked_threads_work_in_simulated_time() {
    run(31, || async {
        on(&machine(1), || {
            let began = Instant::now();
            let (sender, receiver) = mpsc::channel();
            let sum = Arc::new((Mutex::new(0), Condvar::new(), RwLock::new(Vec::new()), Barrier::new(8)));
            let workers: Vec<_> = (0..8)
                .map(|number| {
                    let (sum, sender) = (sum.clone(), sender.clone());
                    thread::spawn(move || {
                        sum.3.wait();
                        for step in 0..50 {
                            *sum.0.lock().unwrap() += step;
                            sum.1.notify_all();
                            sum.2.write().unwrap().push(number);
                            thread::sleep(Duration::from_millis(1));
                        }
                        sender.send(number).unwrap();
                        number
                    })
                })
                .collect();
            let total = sum.1.wait_while(sum.0.lock().unwrap(), |sum| *sum < 8 * 50 * 49 / 2).unwrap();
            assert_eq!(*total, 8 * 50 * 49 / 2);
            drop(total);
            let mut received: Vec<i32> = (0..8).map(|_| receiver.recv().unwrap()).collect();
            received.sort_unstable();
            assert_eq!(received, (0..8).collect::<Vec<_>>());
            for (number, worker) in (0..).zip(workers) {
                assert_eq!(worker.join().unwrap(), number);
            }
            assert_eq!(sum.2.read().unwrap().len(), 400);
            assert_eq!(
                receiver.recv_timeout(Duration::from_secs(3600)),
                Err(mpsc::RecvTimeoutError::Timeout)
            );
            thread::park_timeout(Duration::from_secs(60));
            let took = began.elapsed();
            assert!(took > Duration::from_secs(3660) && took < Duration::from_secs(3661), "{took:?}");
        })
        .await;
    });
}

#[test]
fn a_panic_of_a_thread_is_the_result_of_its_join_and_threads_have_names() {
    run(32, || async {
        on(&machine(1), || {
            let thread = thread::Builder::new().name("unlucky".to_owned());
            let joined =
                thread.spawn(|| -> u8 { panic!("{}", thread::current().name().unwrap()) }).unwrap().join();
            assert_eq!(joined.unwrap_err().downcast_ref::<String>().map(String::as_str), Some("unlucky"));
            let mut values = [1, 2, 3];
            thread::scope(|scope| {
                for value in &mut values {
                    scope.spawn(move || *value *= 2);
                }
            });
            assert_eq!(values, [2, 4, 6]);
        })
        .await;
    });
}

#[test]
fn destructors_of_thread_local_data_run_in_the_simulation() {
    struct Late(mpsc::Sender<Instant>);
    impl Drop for Late {
        fn drop(&mut self) {
            thread::sleep(Duration::from_secs(5));
            self.0.send(Instant::now()).unwrap();
        }
    }
    thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
    run(33, || async {
        on(&machine(1), || {
            let (sender, receiver) = mpsc::channel();
            let began = Instant::now();
            let thread = thread::spawn(move || LATE.set(Some(Late(sender))));
            let dropped = receiver.recv_timeout(Duration::from_secs(10)).expect("it is woken");
            assert!(dropped - began >= Duration::from_secs(5));
            thread.join().unwrap();
            assert!(began.elapsed() < Duration::from_secs(6));
        })
        .await;
    });
}

#[test]
fn a_blocking_server_of_the_standard_library_serves_blocking_clients_and_tasks() {
    run(34, || async {
        machine_with(1, || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            assert_eq!(listener.local_addr().unwrap().to_string(), "10.0.0.1:7");
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut bytes = Vec::new();
                    stream.read_to_end(&mut bytes).unwrap();
                    stream.write_all(&bytes).unwrap();
                });
            }
        });
        sleep_ms(1).await;
        // More than a socket, and the network, keep.
        let bytes: Vec<u8> = (0..2_000_000_u32).map(|number| (number % 251) as u8).collect();
        let sent = bytes.clone();
        let client = machine(2);
        let echoed = on(&client, move || {
            let mut stream = TcpStream::connect("10.0.0.1:7").unwrap();
            assert_eq!(stream.peer_addr().unwrap().to_string(), "10.0.0.1:7");
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let began = Instant::now();
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(
                began.elapsed() >= Duration::from_millis(50) && began.elapsed() < Duration::from_millis(60)
            );
            stream.set_read_timeout(None).unwrap();
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut echoed = Vec::new();
            stream.read_to_end(&mut echoed).unwrap();
            echoed
        });
        assert!(echoed.await == bytes);
        let task = machine(3).spawn(async {
            let mut stream = tokio::net::TcpStream::connect("10.0.0.1:7").await.unwrap();
            stream.write_all(b"from a task").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut echoed = Vec::new();
            stream.read_to_end(&mut echoed).await.unwrap();
            echoed
        });
        assert_eq!(task.await.unwrap(), b"from a task");
    });
}

#[test]
fn a_refused_connection_and_one_without_response_are_the_errors_of_linux() {
    run(35, || async {
        machine(1);
        on(&machine(2), || {
            let refused = TcpStream::connect("10.0.0.1:7").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let address = "10.0.0.99:7".parse().unwrap();
            let began = Instant::now();
            let silent = TcpStream::connect_timeout(&address, Duration::from_secs(2)).unwrap_err();
            assert_eq!(silent.kind(), ErrorKind::TimedOut);
            assert!(began.elapsed() >= Duration::from_secs(2) && began.elapsed() < Duration::from_secs(3));
        })
        .await;
    });
}

#[test]
fn what_blocks_runs_on_a_thread_while_tasks_of_its_machine_go_on() {
    run(36, || async {
        machine(1)
            .spawn(async {
                let done = Arc::new(AtomicBool::new(false));
                let work = {
                    let done = done.clone();
                    tokio::task::spawn_blocking(move || {
                        thread::sleep(Duration::from_secs(1));
                        done.store(true, Ordering::Relaxed);
                        thread::current().name().map(str::to_owned)
                    })
                };
                sleep_ms(900).await;
                assert!(!done.load(Ordering::Relaxed));
                assert_eq!(work.await.unwrap().as_deref(), Some("blocking"));
                assert!(done.load(Ordering::Relaxed));
            })
            .await
            .unwrap();
    });
}

#[test]
fn a_task_that_waits_for_a_lock_of_a_thread_lets_the_thread_go_on() {
    run(37, || async {
        machine(1)
            .spawn(async {
                let lock = Arc::new(Mutex::new(0));
                let count = {
                    let lock = lock.clone();
                    tokio::task::spawn_blocking(move || {
                        for _ in 0..5_000 {
                            let mut count = lock.lock().unwrap();
                            // Others may run at either call, one with the lock and one without.
                            let _ = Instant::now();
                            *count += 1;
                            drop(count);
                            let _ = Instant::now();
                        }
                    })
                };
                let mut seen = Vec::new();
                while !count.is_finished() {
                    seen.push(*lock.lock().unwrap());
                    tokio::task::yield_now().await;
                }
                assert!(seen.len() > 5 && seen.is_sorted(), "{seen:?}");
                assert_eq!(*lock.lock().unwrap(), 5_000);
            })
            .await
            .unwrap();
    });
}

#[test]
fn what_is_done_once_is_done_once_while_others_wait() {
    run(38, || async {
        on(&machine(1), || {
            static DONE: OnceLock<SystemTime> = OnceLock::new();
            let slow = || {
                thread::sleep(Duration::from_secs(1));
                SystemTime::now()
            };
            let threads: Vec<_> = (0..5).map(|_| thread::spawn(move || *DONE.get_or_init(slow))).collect();
            let times: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert!(times.iter().all(|time| *time == times[0]));
        })
        .await;
    });
}
