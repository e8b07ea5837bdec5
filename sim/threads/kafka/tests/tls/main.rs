//! OpenSSL, compiled in as production has it, on blocking sockets of the simulation.
#![allow(unsafe_code, reason = "a process without random addresses is started by a system call of its own")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslConnector, SslMethod};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};
use simulated_threads::{Figures, Threads};

#[path = "../../../tests/threads/harness.rs"]
#[allow(dead_code)]
mod harness;

use harness::{address, machine, machine_with, on, run};

const HOST: &str = "secure.example";

/// A key, and a certificate for it that it has signed itself.
fn certificate() -> (PKey<Private>, X509) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a known curve");
    let key = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", HOST).expect("a name");
    let name = name.build();
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("version 3");
    builder.set_subject_name(&name).expect("a name");
    builder.set_issuer_name(&name).expect("a name");
    builder.set_not_before(&Asn1Time::from_unix(0).expect("a time")).expect("a time");
    builder.set_not_after(&Asn1Time::from_unix(4_000_000_000).expect("a time")).expect("a time");
    builder.set_pubkey(&key).expect("a key");
    let names = SubjectAlternativeName::new().dns(HOST).build(&builder.x509v3_context(None, None));
    builder.append_extension(names.expect("a name")).expect("a name");
    builder.sign(&key, MessageDigest::sha256()).expect("signed");
    (key, builder.build())
}

/// Ten clients exchange bytes with a server that has a thread for each.
fn play(seed: u64) -> Figures {
    run(seed, || async {
        let (sender, receiver) = std::sync::mpsc::channel();
        let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
        machine_with(1, move || {
            let (key, certificate) = certificate();
            let mut acceptor =
                SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("a context");
            acceptor.set_private_key(&key).expect("a key");
            acceptor.set_certificate(&certificate).expect("a certificate");
            let acceptor = acceptor.build();
            let listener = TcpListener::bind("0.0.0.0:443").expect("a free port");
            sender.send(certificate).expect("a client");
            for stream in listener.incoming() {
                let (stream, acceptor) = (stream.expect("a connection"), acceptor.clone());
                std::thread::spawn(move || {
                    let mut stream = acceptor.accept(stream).expect("a handshake");
                    let mut bytes = [0; 1000];
                    stream.read_exact(&mut bytes).expect("a request");
                    stream.write_all(&bytes).expect("a response");
                });
            }
        });
        Threads::current().expect("threads").set_name(HOST, &[address(1)]);
        on(&machine(2), move || {
            let certificate = receiver.lock().expect("no panic").recv().expect("a certificate");
            let mut connector = SslConnector::builder(SslMethod::tls_client()).expect("a context");
            connector.cert_store_mut().add_cert(certificate).expect("a certificate");
            let connector = connector.build();
            std::thread::scope(|scope| {
                for number in 0..10 {
                    let connector = &connector;
                    scope.spawn(move || {
                        let stream = TcpStream::connect((HOST, 443)).expect("a connection");
                        let mut stream = connector.connect(HOST, stream).expect("a handshake");
                        stream.write_all(&[number; 1000]).expect("sent");
                        let mut bytes = [0; 1000];
                        stream.read_exact(&mut bytes).expect("a response");
                        assert_eq!(bytes, [number; 1000]);
                    });
                }
            });
        })
        .await;
    })
    .1
}

/// Set in a process that plays one seed for another.
const SEED: &str = "SIMULATED_THREADS_TLS_TEST_SEED";

#[test]
fn handshakes_succeed_and_a_seed_gives_the_same_bytes_in_two_processes() {
    // OpenSSL mixes addresses into its randomness, and keeps its generators for the process: the bytes are the same only in
    // the first simulation of a process without random addresses.
    if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        let figures = play(seed);
        println!("\ntrace: {:016x} {} {}", figures.trace, figures.calls, figures.turns);
        return;
    }
    let this = std::env::current_exe().expect("a path");
    let elsewhere = |seed: u64| {
        let name = "handshakes_succeed_and_a_seed_gives_the_same_bytes_in_two_processes";
        let mut command = std::process::Command::new(&this);
        command.args([name, "--exact", "--nocapture"]).env(SEED, seed.to_string());
        // SAFETY: a plain system call, which allocates nothing.
        unsafe {
            command.pre_exec(|| match libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("trace: ")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
    };
    assert_eq!(elsewhere(1), elsewhere(1));
    assert_ne!(elsewhere(1), elsewhere(2));
}
