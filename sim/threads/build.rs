//! Names the functions of the C library that the linker leads to this crate: each call of `f` becomes one of `__wrap_f`, and
//! `__real_f` is what `f` was. The arguments apply to this package's own programs, and are passed on to the build scripts
//! of packages that depend on it. Compiles the C clients of the examples and tests, too.

use std::path::Path;

/// The functions that lead to `src/wrap`. A function that is defined there and missing here, or the other way round, does
/// not link.
#[rustfmt::skip]
const WRAPPED: &[&str] = &[
    // Threads.
    "pthread_create", "pthread_join", "pthread_detach", "pthread_self", "pthread_exit", "pthread_cancel", "pthread_kill",
    "pthread_setname_np", "pthread_getname_np", "pthread_getattr_np", "pthread_attr_init", "pthread_once",
    "thrd_create", "thrd_join", "thrd_detach", "thrd_current", "thrd_exit", "thrd_sleep", "thrd_yield", "call_once",
    "sched_yield",
    // Locks.
    "pthread_mutex_lock", "pthread_mutex_trylock", "pthread_mutex_timedlock", "pthread_mutex_unlock",
    "mtx_lock", "mtx_trylock", "mtx_timedlock", "mtx_unlock",
    "pthread_rwlock_rdlock", "pthread_rwlock_tryrdlock", "pthread_rwlock_wrlock", "pthread_rwlock_trywrlock",
    "pthread_rwlock_unlock",
    // Conditions, semaphores and futexes.
    "pthread_cond_init", "pthread_cond_destroy", "pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait",
    "pthread_cond_signal", "pthread_cond_broadcast",
    "cnd_init", "cnd_destroy", "cnd_wait", "cnd_timedwait", "cnd_signal", "cnd_broadcast",
    "sem_wait", "sem_trywait", "sem_timedwait", "sem_post", "syscall",
    // Clocks and sleep.
    "clock_gettime", "gettimeofday", "time", "timespec_get", "nanosleep", "clock_nanosleep", "usleep", "sleep",
    // Randomness, and what else differs between two processes.
    "getrandom", "getentropy", "rand", "random", "srand", "srandom", "arc4random", "arc4random_buf", "arc4random_uniform",
    "OPENSSL_rdtsc", "dlsym", "getpid",
    // Sockets, pipes and what waits for them.
    "socket", "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname", "getpeername",
    "getsockopt", "setsockopt", "send", "sendto", "sendmsg", "recv", "recvfrom", "recvmsg", "__recv_chk", "__recvfrom_chk",
    "pipe", "pipe2", "poll", "__poll_chk", "ppoll", "select", "epoll_create", "epoll_create1",
    "read", "__read_chk", "readv", "write", "writev", "close", "fcntl", "fcntl64", "ioctl",
    // Names.
    "getaddrinfo", "freeaddrinfo", "getnameinfo", "gethostbyname",
    // The end of the process.
    "abort", "__assert_fail",
];

/// The C clients of the examples and tests.
const CLIENTS: &[&str] = &["tests/clients/counter.c", "tests/clients/locks.c"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let arguments: Vec<String> = WRAPPED
        .iter()
        .map(|function| format!("-Wl,--wrap={function}"))
        // The crate `getrandom` looks for it by name at run time, which finds only what is exported.
        .chain(["-Wl,--export-dynamic-symbol=getrandom".to_owned()])
        .collect();
    for argument in &arguments {
        println!("cargo::rustc-link-arg={argument}");
    }
    println!("cargo::metadata=link_arguments={}", arguments.join(" "));
    // A package on a registry has no tests; dependents need no C compiler for them.
    let clients: Vec<&str> = CLIENTS.iter().copied().filter(|path| Path::new(path).exists()).collect();
    let supported = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    if clients.is_empty() || !supported {
        return;
    }
    for path in &clients {
        println!("cargo::rerun-if-changed={path}");
    }
    match cc::Build::new().files(&clients).warnings_into_errors(true).try_compile_intermediates() {
        Ok(objects) => {
            for object in objects {
                println!("cargo::rustc-link-arg-tests={}", object.display());
                println!("cargo::rustc-link-arg-examples={}", object.display());
            }
        }
        // Only the tests and examples need them; their link names what is missing.
        Err(error) => println!("cargo::warning=the C clients of the tests cannot be compiled: {error}"),
    }
}
