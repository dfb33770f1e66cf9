/* A sentinel: one thread on each core, above all that an experiment runs, wakes each millisecond and
 * notes by how much it was late. Nothing of this host's can be in its way, so a late wake-up is time
 * in which the core did not run: the hypervisor had it, or the firmware.
 *
 * Where wake-ups cost more than a hundredth of the core, as those of nested virtual machines do, they
 * come less often, by whole milliseconds, until that has changed. Shorter stalls may then be missed.
 *
 *     sentinel SECONDS
 *
 * Each line on standard input is answered by one line of JSON about the time since the last answer;
 * docs/results.md, "The host's own share", has its meaning, continuum_runtime/sentinel.py the same
 * in Python. It ends with its input, and so with whoever holds the other end, and after SECONDS.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    PERIOD = 1000000,    /* ns between wake-ups, and what is added where they cost too much */
    MOST_PERIODS = 8,
    WAKES_A_LOOK = 100,  /* after which the cost is looked at */
    MOST_COST = 90,      /* ten thousandths of the core */
    LEAST_COST = 60,
    THRESHOLD = 1000000, /* ns late from which a wake-up is a stall */
    PRIORITY = 2,        /* above the links' emulator, which has 1 */
    BUCKETS = 512,
    MOST_STALLS = 65536, /* of one core in one answer: two minutes of the worst that can be */
    PATIENCE = 5000      /* ms for a core to hand over what it has noted */
};

static const int64_t SECOND = 1000000000;

typedef struct {
    int64_t begin, end; /* Unix time in ns */
} stall;

typedef struct {
    int64_t wakes, latest;
    int64_t lateness[BUCKETS];
    int count, left_out;
    stall stalls[MOST_STALLS]; /* pages that nothing is written to take no memory */
} notes;

typedef struct {
    int number;
    pthread_t thread;
    atomic_int period; /* in PERIODs */
    atomic_uint asked, given; /* which of the two notes are written to: number & 1 */
    notes *pages[2];
} core;

static bool real_time = true;

static int64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static void sleep_until(int64_t moment) {
    struct timespec time = {moment / SECOND, moment % SECOND};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) {
    }
}

/* Eight buckets for each doubling: bucket b < 8 is b ns, any other begins at (8 + b % 8) << (b / 8 - 1). */
static int bucket(int64_t ns) {
    int shift = 0;
    while ((ns >> shift) >= 16)
        shift++;
    int found = ns < 8 ? (int)ns : 8 * shift + (int)(ns >> shift);
    return found < BUCKETS ? found : BUCKETS - 1;
}

static void note(notes *page, int64_t late) {
    page->wakes++;
    page->lateness[bucket(late)]++;
    if (late > page->latest)
        page->latest = late;
    if (late <= THRESHOLD)
        return;
    if (page->count == MOST_STALLS) {
        page->left_out++;
        return;
    }
    int64_t end = now(CLOCK_REALTIME);
    page->stalls[page->count++] = (stall){end - late, end};
}

/* By how many PERIODs the period should change for the wake-ups since the last look to cost what they
 * may; none where it would have to change back soon. */
static int change(int64_t *moment, int64_t *used, int64_t periods) {
    int64_t passed = now(CLOCK_MONOTONIC) - *moment, spent = now(CLOCK_THREAD_CPUTIME_ID) - *used;
    *moment += passed;
    *used += spent;
    int64_t cost = 10000 * spent / passed;
    if (cost > MOST_COST && periods < MOST_PERIODS)
        return 1;
    return periods > 1 && cost * periods / (periods - 1) < LEAST_COST ? -1 : 0;
}

static void *watch(void *argument) {
    core *mine = argument;
    int64_t moment = now(CLOCK_MONOTONIC), used = now(CLOCK_THREAD_CPUTIME_ID);
    int64_t period = PERIOD, due = (moment / period + 1) * period;
    for (int wakes = 1;; wakes++) {
        sleep_until(due);
        int64_t late = now(CLOCK_MONOTONIC) - due;
        unsigned asked = atomic_load(&mine->asked);
        note(mine->pages[mine->given & 1], late);
        /* After the note: what stalled when the question came belongs to its answer. */
        atomic_store(&mine->given, asked);
        if (wakes % WAKES_A_LOOK == 0) {
            mine->period += change(&moment, &used, mine->period);
            period = (int64_t)mine->period * PERIOD;
        }
        /* At multiples of the period, where a tick of the kernel's may wake the core anyway. */
        due = ((due + late) / period + 1) * period;
    }
    return NULL;
}

static int start(core *mine, int number) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(number, &only);
    struct sched_param priority = {.sched_priority = PRIORITY};
    pthread_attr_t how;
    mine->number = number;
    mine->period = 1;
    for (int page = 0; page < 2; page++) {
        mine->pages[page] = mmap(NULL, sizeof(notes), PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mine->pages[page] == MAP_FAILED)
            return -1;
    }
    pthread_attr_init(&how);
    pthread_attr_setstacksize(&how, 65536);
    pthread_attr_setaffinity_np(&how, sizeof only, &only);
    pthread_attr_setinheritsched(&how, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&how, SCHED_FIFO);
    pthread_attr_setschedparam(&how, &priority);
    int failed = pthread_create(&mine->thread, &how, watch, mine);
    if (failed == EPERM) {
        real_time = false;
        pthread_attr_setinheritsched(&how, PTHREAD_INHERIT_SCHED);
        failed = pthread_create(&mine->thread, &how, watch, mine);
    }
    pthread_attr_destroy(&how);
    return failed ? -1 : 0;
}

/* Have the core write to its other notes; those that it has left. */
static notes *take(core *mine) {
    unsigned before = atomic_load(&mine->asked);
    atomic_store(&mine->asked, before + 1);
    for (int waited = 0; atomic_load(&mine->given) != before + 1 && waited < PATIENCE; waited++)
        sleep_until(now(CLOCK_MONOTONIC) + PERIOD);
    return mine->pages[before & 1];
}

static void print(core *cores, int count, int64_t begin, int64_t end) {
    static int64_t lateness[BUCKETS];
    int64_t wakes = 0, latest = 0;
    int left_out = 0, period = 1;
    const char *comma = "";
    for (int each = 0; each < BUCKETS; each++)
        lateness[each] = 0;
    printf("{\"begin_ns\": %lld, \"end_ns\": %lld, \"real_time\": %s, "
           "\"threshold_ns\": %d, \"cores\": %d, \"stalls\": [",
           (long long)begin, (long long)end, real_time ? "true" : "false", THRESHOLD, count);
    for (int place = 0; place < count; place++) {
        notes *page = take(&cores[place]);
        for (int each = 0; each < page->count; each++, comma = ", ")
            printf("%s[%lld, %lld, %d]", comma, (long long)page->stalls[each].begin,
                   (long long)page->stalls[each].end, cores[place].number);
        for (int each = 0; each < BUCKETS; each++)
            lateness[each] += page->lateness[each], page->lateness[each] = 0;
        wakes += page->wakes;
        latest = page->latest > latest ? page->latest : latest;
        period = cores[place].period > period ? cores[place].period : period;
        left_out += page->left_out;
        page->wakes = page->latest = page->count = page->left_out = 0;
    }
    printf("], \"stalls_left_out\": %d, \"period_ns\": %d, \"wakes\": %lld, "
           "\"latest_ns\": %lld, \"lateness\": [",
           left_out, period * PERIOD, (long long)wakes, (long long)latest);
    comma = "";
    for (int each = 0; each < BUCKETS; each++)
        if (lateness[each])
            printf("%s[%d, %lld]", comma, each, (long long)lateness[each]), comma = ", ";
    printf("]}\n");
    fflush(stdout);
}

int main(int count, char **arguments) {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    if (count != 2 || sched_getaffinity(0, sizeof usable, &usable) != 0)
        return 2;
    alarm((unsigned)strtoul(arguments[1], NULL, 10)); /* Unanswered, SIGALRM ends it. */
    mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    int64_t begin = now(CLOCK_REALTIME);
    core *cores = calloc((size_t)CPU_COUNT(&usable), sizeof(core));
    int started = 0;
    for (int number = 0; cores != NULL && number < CPU_SETSIZE; number++)
        if (CPU_ISSET(number, &usable) && start(&cores[started++], number) != 0)
            return 3;
    for (int said; (said = getchar()) != EOF;) {
        if (said != '\n')
            continue;
        int64_t end = now(CLOCK_REALTIME);
        print(cores, started, begin, end);
        begin = end;
    }
    return 0;
}
