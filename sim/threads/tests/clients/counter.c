/* Written as C clients of services are: blocking sockets and a thread for each connection in the server; in the client a
 * thread that polls, a queue under a lock, a condition for those who wait, and a pipe that wakes the thread. It knows
 * nothing of any simulation. */

#define _GNU_SOURCE
#include "counter.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t sum_lock = PTHREAD_MUTEX_INITIALIZER;

struct connection {
    int fd;
    long *sum;
};

static int read_all(int fd, void *bytes, size_t count) {
    char *to = bytes;
    while (count > 0) {
        ssize_t got = read(fd, to, count);
        if (got <= 0)
            return -1;
        to += got;
        count -= (size_t)got;
    }
    return 0;
}

static void *serve_connection(void *argument) {
    struct connection *connection = argument;
    int32_t number;
    while (read_all(connection->fd, &number, sizeof number) == 0) {
        pthread_mutex_lock(&sum_lock);
        int64_t sum = *connection->sum += number;
        pthread_mutex_unlock(&sum_lock);
        if (write(connection->fd, &sum, sizeof sum) != sizeof sum)
            break;
    }
    close(connection->fd);
    free(connection);
    return NULL;
}

int counter_serve(int port) {
    long sum = 0;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0)
        return errno;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            return errno;
        struct connection *connection = malloc(sizeof *connection);
        *connection = (struct connection){.fd = fd, .sum = &sum};
        pthread_attr_t attributes;
        pthread_t thread;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        if (pthread_create(&thread, &attributes, serve_connection, connection) != 0)
            return errno;
        pthread_attr_destroy(&attributes);
    }
}

struct counter {
    char host[64], port[16];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    int wake[2];
    int closing, connections;
    /* What is to be added, and whether it was sent; what has come back. */
    int32_t number;
    int pending, sent;
    int64_t sum;
    unsigned answers;
};

static int64_t now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int connect_to(struct counter *counter) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(counter->host, counter->port, &hints, &found) != 0)
        return -1;
    int fd = -1;
    for (struct addrinfo *each = found; each && fd < 0; each = each->ai_next) {
        fd = socket(each->ai_family, each->ai_socktype | SOCK_NONBLOCK, each->ai_protocol);
        if (fd < 0)
            continue;
        int error = connect(fd, each->ai_addr, each->ai_addrlen) < 0 ? errno : 0;
        if (error == EINPROGRESS) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            socklen_t size = sizeof error;
            error = poll(&writable, 1, 3000) == 1 ? 0 : ETIMEDOUT;
            if (error == 0)
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        }
        if (error != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* Sends what is pending and takes what comes, until the connection breaks or the client is closed. */
static void exchange(struct counter *counter, int fd) {
    char received[8];
    size_t count = 0;
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = counter->wake[0], .events = POLLIN}};
        pthread_mutex_lock(&counter->lock);
        int closing = counter->closing, sends = counter->pending && !counter->sent;
        int32_t number = counter->number;
        if (sends)
            counter->sent = 1;
        pthread_mutex_unlock(&counter->lock);
        if (closing || (sends && send(fd, &number, sizeof number, MSG_NOSIGNAL) != sizeof number))
            return;
        if (poll(fds, 2, 1000) < 0)
            return;
        char byte;
        if (fds[1].revents)
            while (read(counter->wake[0], &byte, 1) == 1) {
            }
        if (!fds[0].revents)
            continue;
        ssize_t got = recv(fd, received + count, sizeof received - count, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return;
        if (got < 0 || (count += (size_t)got) < sizeof received)
            continue;
        count = 0;
        pthread_mutex_lock(&counter->lock);
        memcpy(&counter->sum, received, sizeof counter->sum);
        counter->pending = 0;
        counter->answers++;
        pthread_cond_broadcast(&counter->answered);
        pthread_mutex_unlock(&counter->lock);
    }
}

static void *run(void *argument) {
    struct counter *counter = argument;
    pthread_setname_np(pthread_self(), "counter");
    for (;;) {
        pthread_mutex_lock(&counter->lock);
        int closing = counter->closing;
        pthread_mutex_unlock(&counter->lock);
        if (closing)
            return NULL;
        int fd = connect_to(counter);
        if (fd < 0) {
            struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
            nanosleep(&pause, NULL);
            continue;
        }
        pthread_mutex_lock(&counter->lock);
        counter->connections++;
        /* Whether it was added before the connection broke is not known. */
        counter->sent = 0;
        pthread_mutex_unlock(&counter->lock);
        exchange(counter, fd);
        close(fd);
    }
}

struct counter *counter_open(const char *host, int port) {
    struct counter *counter = calloc(1, sizeof *counter);
    pthread_condattr_t attributes;
    snprintf(counter->host, sizeof counter->host, "%s", host);
    snprintf(counter->port, sizeof counter->port, "%d", port);
    pthread_mutex_init(&counter->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&counter->answered, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pipe(counter->wake) < 0 || fcntl(counter->wake[0], F_SETFL, O_NONBLOCK) < 0 ||
        fcntl(counter->wake[1], F_SETFL, O_NONBLOCK) < 0)
        return NULL;
    if (pthread_create(&counter->thread, NULL, run, counter) != 0)
        return NULL;
    return counter;
}

static void wake(struct counter *counter) {
    char byte = 0;
    /* A full pipe wakes, too. */
    if (write(counter->wake[1], &byte, 1) < 0 && errno != EAGAIN)
        abort();
}

long counter_add(struct counter *counter, int number, int timeout_ms) {
    int64_t until = now_ms() + timeout_ms;
    struct timespec deadline = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    pthread_mutex_lock(&counter->lock);
    unsigned before = counter->answers;
    counter->number = number;
    counter->pending = 1;
    counter->sent = 0;
    wake(counter);
    int code = 0;
    while (counter->answers == before && code == 0)
        code = pthread_cond_timedwait(&counter->answered, &counter->lock, &deadline);
    counter->pending = 0;
    long sum = code == 0 ? (long)counter->sum : -1;
    pthread_mutex_unlock(&counter->lock);
    return sum;
}

int counter_connections(struct counter *counter) {
    pthread_mutex_lock(&counter->lock);
    int connections = counter->connections;
    pthread_mutex_unlock(&counter->lock);
    return connections;
}

void counter_close(struct counter *counter) {
    pthread_mutex_lock(&counter->lock);
    counter->closing = 1;
    pthread_mutex_unlock(&counter->lock);
    wake(counter);
    pthread_join(counter->thread, NULL);
    close(counter->wake[0]);
    close(counter->wake[1]);
    pthread_cond_destroy(&counter->answered);
    pthread_mutex_destroy(&counter->lock);
    free(counter);
}
