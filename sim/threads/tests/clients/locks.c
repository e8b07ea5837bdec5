/* What goes wrong between threads, on purpose. */

#define _GNU_SOURCE
#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static void pause_ms(long ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Two threads that take two locks in opposite order. */

struct pair {
    pthread_mutex_t first, second;
};

static void *forwards(void *argument) {
    struct pair *pair = argument;
    pthread_setname_np(pthread_self(), "forwards");
    pthread_mutex_lock(&pair->first);
    pause_ms(10);
    pthread_mutex_lock(&pair->second);
    pthread_mutex_unlock(&pair->second);
    pthread_mutex_unlock(&pair->first);
    return NULL;
}

static void *backwards(void *argument) {
    struct pair *pair = argument;
    pthread_setname_np(pthread_self(), "backwards");
    pthread_mutex_lock(&pair->second);
    pause_ms(10);
    pthread_mutex_lock(&pair->first);
    pthread_mutex_unlock(&pair->first);
    pthread_mutex_unlock(&pair->second);
    return NULL;
}

void locks_in_opposite_order(void) {
    struct pair pair = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
    pthread_t one, other;
    pthread_create(&one, NULL, forwards, &pair);
    pthread_create(&other, NULL, backwards, &pair);
    pthread_join(one, NULL);
    pthread_join(other, NULL);
}

/* A wait for a condition that nobody signals. */

void wait_for_nothing(void) {
    mtx_t lock;
    cnd_t condition;
    mtx_init(&lock, mtx_plain);
    cnd_init(&condition);
    mtx_lock(&lock);
    cnd_wait(&condition, &lock);
}

/* A lock that is held for longer than a machine lives. */

static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER;

void hold_shared_lock(int ms) {
    pthread_mutex_lock(&shared);
    pause_ms(ms);
    pthread_mutex_unlock(&shared);
}

/* A check and an act that a lock does not cover together. Returns how many threads believe to be the only one. */

struct election {
    pthread_rwlock_t lock;
    int leader, leaders;
};

static int stand(void *argument) {
    struct election *election = argument;
    pthread_rwlock_rdlock(&election->lock);
    int free = election->leader == 0;
    pthread_rwlock_unlock(&election->lock);
    if (free) {
        pthread_rwlock_wrlock(&election->lock);
        election->leader = 1;
        election->leaders++;
        pthread_rwlock_unlock(&election->lock);
    }
    return free;
}

int elect(int candidates) {
    struct election election = {PTHREAD_RWLOCK_INITIALIZER, 0, 0};
    thrd_t threads[16];
    int sum = 0;
    for (int each = 0; each < candidates; each++)
        thrd_create(&threads[each], stand, &election);
    for (int each = 0; each < candidates; each++) {
        int free;
        thrd_join(threads[each], &free);
        sum += free;
    }
    assert(sum == election.leaders);
    return sum;
}

/* Items through a semaphore, and a thread that ends in the middle. */

struct belt {
    sem_t items;
    int taken;
};

static void *take(void *argument) {
    struct belt *belt = argument;
    for (;;) {
        sem_wait(&belt->items);
        if (++belt->taken == 3)
            pthread_exit((void *)42);
    }
}

int belt_of_three(void) {
    struct belt belt = {.taken = 0};
    pthread_t thread;
    void *result;
    sem_init(&belt.items, 0, 1);
    pthread_create(&thread, NULL, take, &belt);
    pause_ms(5);
    sem_post(&belt.items);
    sem_post(&belt.items);
    pthread_join(thread, &result);
    sem_destroy(&belt.items);
    return (int)(long)result;
}

/* What ends a process. */

void fail_assertion(int number) { assert(number == 1); }

void call_back(void (*function)(void)) { function(); }
