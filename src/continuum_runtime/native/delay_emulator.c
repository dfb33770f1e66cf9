/* Delays, loses and keeps in order the packets that wait in netfilter queues.
 *
 *     delay_emulator IDENTITY TABLE     serve until the last machine has ended, or SIGTERM
 *     delay_emulator --probe            try whether the kernel has packet queues
 *     delay_emulator --replay TABLE     read "MACHINE QUEUE ARRIVAL PACKET" lines (places from 0, a
 *                                       time in ns, the packet's first bytes in hexadecimal digits),
 *                                       print when each would be released, and "lost" if it were lost
 *
 * The same job as continuum_runtime/delay_emulator.py, which says what is done to a packet; for
 * many more of them. The table is that of continuum_runtime/delay_table.py, the jitter that of
 * continuum_runtime/jitter.py, the series that of continuum_runtime/link_series.py: equal packets
 * are released at equal times by both programs.
 *
 * One thread serves all queues at a real-time priority, and only that: it reads at most READ
 * packets of one machine, then releases what is due, RELEASED packets at a time and at most as many
 * as may be read, and goes on to the next machine, so that no machine's flood holds up another's
 * packets for longer than that takes. A second thread
 * at normal priority writes the series. They share a ring that neither waits for.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h> /* before the kernel's headers, which then leave the same names out */
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Sums and products are rounded one by one, as Python rounds them, on every processor. */
#pragma GCC optimize("fp-contract=off")

#if __BYTE_ORDER != __LITTLE_ENDIAN
#error "the series' records are written as they lie in memory, with the smallest byte first"
#endif

enum {
    READ = 64,              /* packets read of one machine in a row */
    RELEASED = 16,          /* packets released in a row */
    MESSAGE = 512,          /* bytes of the largest announcement of a packet, with some to spare */
    COPIED = 64,            /* bytes copied of each packet: an IPv4 header with options, and ports */
    MAXIMUM_HELD = 200000,  /* packets that one queue may hold */
    ETHERNET_HEADER = 14,
    FLOWS = 1024,           /* flows that a queue keeps in order; equal hashes count as one */
    PATHS = 16,             /* source addresses whose jitter a queue has at hand */
    RING = 16384,           /* records on their way to the writing thread */
    BUCKETS = 8 * 40,       /* of the histogram of lateness: eight for each doubling of nanoseconds */
    PARTS = 1000,
    STACK = 256 * 1024,
    SYS_PIDFD_OPEN = 434,
};

static const int RECEIVE_BUFFER = 64 << 20;
static const int64_t WINDOW = 100000000;             /* ns */
static const int64_t ANSWER_TIMEOUT = 5;             /* s */
static const int64_t CLOCK_STEP = 2000000;           /* ns; a larger one is no adjustment */
static const int64_t LATEST = INT64_C(600000000000); /* ns by which a packet may be read too late */
static const uint64_t GOLDEN = UINT64_C(0x9E3779B97F4A7C15);
static const off_t PART = 32 << 20;   /* bytes of one file of the series */
static const off_t SERIES = 256 << 20; /* bytes of all of them */

struct path {
    uint32_t source;
    bool known;
    uint64_t key;
    int64_t slot;
    double now, next;
};

struct queue {
    struct machine *machine;
    unsigned number;
    double centre, spread, byte;
    int64_t slot;
    uint64_t loss, loss_key, arrived, seed;
    bool whole;
    struct path paths[PATHS];
    int64_t released[FLOWS];
    uint32_t held;
    /* of the current window */
    bool active;
    uint32_t packets, lost, refused, most, released_count;
    uint64_t bytes;
    double delay;
    int64_t latest;
    uint32_t lateness[BUCKETS];
    /* the writing thread's: what the kernel has dropped since the beginning */
    uint32_t dropped, dropped_before;
};

struct machine {
    char *name, *namespace;
    unsigned place, count;
    struct queue **queues; /* by ascending number */
    int socket, process;
    int counters; /* the writing thread's, as is `round`, when it last read them */
    unsigned round;
    unsigned char verdicts[RELEASED * 32];
    unsigned waiting;
};

struct held {
    int64_t due;
    uint64_t order; /* by arrival; the lowest bit is set when the packet is lost */
    struct queue *queue;
    uint32_t number; /* as in messages */
};

struct record {
    uint64_t start; /* ns, wall clock */
    uint16_t machine, queue;
    uint32_t packets;
    uint64_t bytes;
    uint32_t lost, overflow, most;
    float delay, median, high, latest; /* us */
} __attribute__((packed));

struct entry {
    struct queue *queue; /* NULL: `machine` has ended */
    struct machine *machine;
    struct record record;
};

static char *state, *series, *digest;
static struct machine **machines;
static unsigned machine_count, machines_left, queue_count;
static struct held *heap;
static size_t heap_count, heap_size;
static uint64_t arrivals;
static struct queue **active;
static unsigned active_count;
static int polled, stop_signals;
static int64_t window_end, ahead, ahead_at, distrust_until;

static struct entry ring[RING];
static atomic_uint ring_first, ring_last;
static atomic_bool ring_ended;
static int ring_event;
static pthread_t writer;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void wrong(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    exit(1);
}

static void *memory(size_t count, size_t size)
{
    void *made = calloc(count ? count : 1, size);

    if (!made)
        die("memory");
    return made;
}

static int64_t clock_ns(clockid_t which)
{
    struct timespec time;

    clock_gettime(which, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- Jitter: see continuum_runtime/jitter.py. ---- */

static uint64_t mix(uint64_t word)
{
    word = (word ^ (word >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    word = (word ^ (word >> 27)) * UINT64_C(0x94D049BB133111EB);
    return word ^ (word >> 31);
}

static uint64_t path_key(uint64_t seed, uint64_t source)
{
    return mix(seed + (source + 1) * GOLDEN);
}

static uint64_t draw(uint64_t key, uint64_t number)
{
    return mix(key + number * GOLDEN);
}

static double normal(uint64_t key, int64_t slot)
{
    double radius = (double)((draw(key, 2 * (uint64_t)slot) >> 11) + 1) * 0x1p-53;
    double angle = (double)(draw(key, 2 * (uint64_t)slot + 1) >> 11) * 0x1p-53;

    return sqrt(-2 * log(radius)) * cos(2 * M_PI * angle);
}

static double delay(struct queue *queue, uint32_t source, int64_t at)
{
    struct path *path;
    double angle, wave;
    int64_t slot;

    if (!queue->slot)
        return queue->centre;
    path = &queue->paths[(source * UINT32_C(2654435761)) >> 28];
    slot = at / queue->slot;
    if (!path->known || path->source != source) {
        path->source = source;
        path->key = path_key(queue->seed, source);
        path->known = true;
        path->slot = -2;
    }
    if (path->slot != slot) {
        path->now = path->slot == slot - 1 ? path->next : normal(path->key, slot);
        path->next = normal(path->key, slot + 1);
        path->slot = slot;
    }
    angle = M_PI / 2 * ((double)(at % queue->slot) / (double)queue->slot);
    wave = cos(angle) * path->now + sin(angle) * path->next;
    return fmax(0.0, queue->centre + queue->spread * wave);
}

/* ---- One packet. ---- */

static uint32_t number_at(const unsigned char *bytes, unsigned count)
{
    uint32_t number = 0;

    while (count--)
        number = number << 8 | *bytes++;
    return number;
}

/* The place of a packet's flow among those of its queue. Fragments go by their addresses. */
static unsigned flow_of(const unsigned char *header, size_t length)
{
    uint64_t ends = (uint64_t)number_at(header + 12, 4) << 32 | number_at(header + 16, 4);
    uint64_t protocol = header[9], ports = 0;
    size_t start = (size_t)(header[0] & 15) * 4;
    bool whole = (number_at(header + 6, 2) & 0x3FFF) == 0;

    if (whole && start + 4 <= length
        && (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_DCCP
            || protocol == IPPROTO_SCTP || protocol == IPPROTO_UDPLITE))
        ports = number_at(header + start, 4);
    return (unsigned)(mix(ends ^ mix(ports << 8 | protocol)) % FLOWS);
}

/* When a packet goes; `lost` says that it is dropped then. */
static int64_t release(struct queue *queue, const unsigned char *header, size_t copied,
                       int64_t arrival, bool *lost)
{
    uint32_t length = number_at(header + 2, 2);
    int64_t *before = &queue->released[flow_of(header, copied)];
    double wait = delay(queue, number_at(header + 12, 4), arrival);
    double sending = (double)(length + ETHERNET_HEADER) * queue->byte;
    int64_t due = arrival + (int64_t)(wait + sending);

    *lost = queue->loss && draw(queue->loss_key, queue->arrived) >> 11 < queue->loss;
    queue->arrived++;
    if (due < *before)
        due = *before;
    *before = due;
    return due;
}

/* ---- Packets that wait: a heap, the earliest first. ---- */

static bool earlier(const struct held *one, const struct held *other)
{
    return one->due != other->due ? one->due < other->due : one->order < other->order;
}

static void sink(size_t place, struct held value)
{
    for (;;) {
        size_t child = 4 * place + 1, best = child, last = child + 4;

        if (child >= heap_count)
            break;
        if (last > heap_count)
            last = heap_count;
        while (++child < last)
            if (earlier(&heap[child], &heap[best]))
                best = child;
        if (!earlier(&heap[best], &value))
            break;
        heap[place] = heap[best];
        place = best;
    }
    heap[place] = value;
}

static bool hold(struct held value)
{
    size_t place = heap_count;

    if (heap_count == heap_size) {
        size_t size = heap_size ? 2 * heap_size : 4096;
        struct held *larger = realloc(heap, size * sizeof *heap);

        if (!larger)
            return false;
        heap = larger;
        heap_size = size;
    }
    heap_count++;
    while (place && earlier(&value, &heap[(place - 1) / 4])) {
        heap[place] = heap[(place - 1) / 4];
        place = (place - 1) / 4;
    }
    heap[place] = value;
    return true;
}

static struct held take_first(void)
{
    struct held first = heap[0], last = heap[--heap_count];

    if (heap_count)
        sink(0, last);
    return first;
}

static void forget(const struct machine *machine)
{
    size_t kept = 0;

    for (size_t place = 0; place < heap_count; place++)
        if (heap[place].queue->machine != machine)
            heap[kept++] = heap[place];
    heap_count = kept;
    for (size_t place = kept / 4 + 1; place-- > 0;)
        if (place < kept)
            sink(place, heap[place]);
}

/* ---- What is counted in each window. ---- */

static void mark_active(struct queue *queue)
{
    if (!queue->active) {
        queue->active = true;
        active[active_count++] = queue;
    }
}

static unsigned bucket_of(int64_t lateness)
{
    uint64_t value = (uint64_t)lateness | 8;
    unsigned doublings = 63 - (unsigned)__builtin_clzll(value);
    unsigned bucket = (doublings - 3) * 8 + ((value >> (doublings - 3)) & 7);

    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static void count_release(struct queue *queue, int64_t lateness)
{
    if (lateness < 0)
        lateness = 0;
    queue->lateness[bucket_of(lateness)]++;
    queue->released_count++;
    if (lateness > queue->latest)
        queue->latest = lateness;
}

/* In us: the upper end of the bucket that holds it, at most the largest. */
static float lateness(const struct queue *queue, unsigned percent)
{
    uint64_t rank = ((uint64_t)queue->released_count * percent + 99) / 100, seen = 0;
    int64_t end;
    unsigned bucket = 0;

    if (!queue->released_count)
        return 0;
    while ((seen += queue->lateness[bucket]) < rank)
        bucket++;
    end = (int64_t)(9 + bucket % 8) << (bucket / 8);
    return (float)((double)(end < queue->latest ? end : queue->latest) / 1000);
}

static void pass_on(struct entry entry)
{
    unsigned last = atomic_load_explicit(&ring_last, memory_order_relaxed);

    /* The writing thread is far behind: a gap in the series, and no harm to packets. */
    if (last - atomic_load_explicit(&ring_first, memory_order_acquire) == RING)
        return;
    ring[last % RING] = entry;
    atomic_store_explicit(&ring_last, last + 1, memory_order_release);
}

static void wake_writer(void)
{
    uint64_t one = 1;

    if (write(ring_event, &one, sizeof one) < 0 && errno != EAGAIN)
        die("eventfd");
}

static void close_window(int64_t now)
{
    uint64_t start = (uint64_t)(window_end - WINDOW + ahead);

    for (unsigned place = 0; place < active_count; place++) {
        struct queue *queue = active[place];
        uint32_t kept = queue->packets - queue->lost - queue->refused;
        struct record record = {
            .start = start,
            .machine = (uint16_t)queue->machine->place,
            .queue = (uint16_t)queue->number,
            .packets = queue->packets,
            .bytes = queue->bytes,
            .lost = queue->lost,
            .overflow = queue->refused,
            .most = queue->most,
            .delay = kept ? (float)(queue->delay / kept / 1000) : 0,
            .median = lateness(queue, 50),
            .high = lateness(queue, 99),
            .latest = (float)((double)queue->latest / 1000),
        };

        pass_on((struct entry){queue, queue->machine, record});
        queue->active = false;
        queue->packets = queue->lost = queue->refused = queue->released_count = 0;
        queue->most = queue->held;
        queue->bytes = 0;
        queue->delay = 0;
        queue->latest = 0;
        memset(queue->lateness, 0, sizeof queue->lateness);
    }
    if (active_count)
        wake_writer();
    active_count = 0;
    window_end = now / WINDOW * WINDOW + WINDOW;
}

/* ---- The series' files, by the second thread. ---- */

static int part = -1;
static off_t part_bytes;

static int is_part(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return length > 5 && strcmp(entry->d_name + length - 5, ".part") == 0;
}

/* Remove the oldest files, so that there is room for another one. */
static void make_room(void)
{
    struct dirent **names;
    off_t bytes = PART;
    int count = scandir(series, &names, is_part, alphasort), kept = 0;

    for (int place = count; place-- > 0;) {
        char path[4096];
        struct stat found;

        snprintf(path, sizeof path, "%s/%s", series, names[place]->d_name);
        if (stat(path, &found) == 0) {
            bytes += found.st_size;
            if (bytes > SERIES || ++kept >= PARTS)
                unlink(path);
        }
        free(names[place]);
    }
    if (count >= 0)
        free(names);
}

static bool write_all(const void *bytes, size_t length)
{
    const char *rest = bytes;

    while (length) {
        ssize_t written = write(part, rest, length);

        if (written < 0) {
            if (errno == EINTR)
                continue;
            fprintf(stderr, "%s: %s\n", series, strerror(errno));
            return false;
        }
        rest += written;
        length -= (size_t)written;
    }
    return true;
}

static void next_part(void)
{
    char path[4096];

    if (part >= 0)
        close(part);
    mkdir(series, 0755);
    make_room();
    snprintf(path, sizeof path, "%s/%020lld.part", series, (long long)clock_ns(CLOCK_REALTIME));
    part = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    part_bytes = 0;
    if (part < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return;
    }
    write_all("continuum-links 1", 17);
    for (unsigned place = 0; place < machine_count; place++)
        if (write_all(" ", 1))
            write_all(machines[place]->name, strlen(machines[place]->name));
    write_all("\n", 1);
}

/* The kernel's own counters: packets that a full queue, or a full socket, did not take. */
static void read_drops(struct machine *machine)
{
    static char text[1 << 20];
    ssize_t length;

    if (machine->counters < 0 || (length = pread(machine->counters, text, sizeof text - 1, 0)) <= 0)
        return;
    text[length] = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        unsigned number, full, unread;

        if (sscanf(line, "%u %*u %*u %*u %*u %u %u", &number, &full, &unread) == 3)
            for (unsigned place = 0; place < machine->count; place++)
                if (machine->queues[place]->number == number)
                    machine->queues[place]->dropped = full + unread;
    }
}

static void write_records(void)
{
    static struct record records[RING];
    static unsigned round;
    unsigned first = atomic_load_explicit(&ring_first, memory_order_relaxed);
    unsigned last = atomic_load_explicit(&ring_last, memory_order_acquire);
    size_t count = 0;

    round++;
    for (; first != last; first++) {
        struct entry *entry = &ring[first % RING];

        if (!entry->queue) {
            if (entry->machine->counters >= 0)
                close(entry->machine->counters);
            entry->machine->counters = -1;
            continue;
        }
        if (entry->machine->round != round) {
            entry->machine->round = round;
            read_drops(entry->machine);
        }
        records[count] = entry->record;
        records[count++].overflow += entry->queue->dropped - entry->queue->dropped_before;
        entry->queue->dropped_before = entry->queue->dropped;
    }
    atomic_store_explicit(&ring_first, first, memory_order_release);
    if (!count)
        return;
    if (part < 0 || part_bytes + (off_t)(count * sizeof *records) > PART)
        next_part();
    if (part >= 0) {
        write_all(records, count * sizeof *records);
        part_bytes += (off_t)(count * sizeof *records);
    }
}

static void *write_series(void *nothing)
{
    uint64_t woken;

    while (!atomic_load(&ring_ended))
        if (read(ring_event, &woken, sizeof woken) > 0)
            write_records();
    write_records();
    return nothing;
}

/* ---- The kernel's queues. ---- */

struct request {
    struct nlmsghdr header;
    struct nfgenmsg family;
    unsigned char rest[128];
};

static struct request request(unsigned kind, unsigned queue)
{
    struct request made = {
        .header = {
            .nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)),
            .nlmsg_type = (uint16_t)(NFNL_SUBSYS_QUEUE << 8 | kind),
            .nlmsg_flags = NLM_F_REQUEST,
        },
        .family = {.nfgen_family = AF_UNSPEC, .version = 0, .res_id = htons((uint16_t)queue)},
    };

    return made;
}

static void attribute(struct request *request, unsigned kind, const void *value, size_t length)
{
    struct nlattr *added = (void *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

    added->nla_len = (uint16_t)(NLA_HDRLEN + length);
    added->nla_type = (uint16_t)kind;
    memcpy((char *)added + NLA_HDRLEN, value, length);
    request->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(request->header.nlmsg_len)
                                           + NLA_ALIGN(added->nla_len));
}

static void take(struct machine *machine, const unsigned char *message, size_t length, int64_t now);

/* Send a request and await its acknowledgement; what else comes before it are packets. */
static void ask(struct machine *machine, struct request *request)
{
    unsigned char answer[8192];
    const struct nlmsghdr *header = (void *)answer;

    request->header.nlmsg_flags |= NLM_F_ACK;
    if (send(machine->socket, request, request->header.nlmsg_len, 0) < 0)
        die("packet queue");
    for (;;) {
        ssize_t length = recv(machine->socket, answer, sizeof answer, 0);

        if (length < 0)
            die("packet queue");
        if (header->nlmsg_type == NLMSG_ERROR) {
            errno = -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
            if (errno)
                die("packet queue");
            return;
        }
        take(machine, answer, (size_t)length, clock_ns(CLOCK_MONOTONIC));
    }
}

/* As large a buffer for announcements as may be had: beyond the host's own limit only with privileges
   that user namespaces do not have. */
static void widen(const struct machine *machine)
{
    int got = 0;
    socklen_t size = sizeof got;

    if (setsockopt(machine->socket, SOL_SOCKET, SO_RCVBUFFORCE, &RECEIVE_BUFFER,
                   sizeof RECEIVE_BUFFER) == 0)
        return;
    setsockopt(machine->socket, SOL_SOCKET, SO_RCVBUF, &RECEIVE_BUFFER, sizeof RECEIVE_BUFFER);
    getsockopt(machine->socket, SOL_SOCKET, SO_RCVBUF, &got, &size);
    /* The kernel tells twice what may be asked for. */
    fprintf(stderr, "%s: the buffer for announcements of packets is %d bytes instead of %d"
                    " (net.core.rmem_max)\n",
            machine->name ? machine->name : "probe", got / 2, RECEIVE_BUFFER);
}

/* Open a machine's queues in the current network namespace. */
static void open_queues(struct machine *machine)
{
    struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT};
    struct sockaddr_nl own = {.nl_family = AF_NETLINK};
    int on = 1;

    machine->socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (machine->socket < 0 || bind(machine->socket, (void *)&own, sizeof own) < 0)
        die("packet queue");
    setsockopt(machine->socket, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on);
    widen(machine);
    setsockopt(machine->socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    for (unsigned place = 0; place < machine->count; place++) {
        struct request made = request(NFQNL_MSG_CONFIG, machine->queues[place]->number);
        struct nfqnl_msg_config_cmd command = {.command = NFQNL_CFG_CMD_BIND};

        attribute(&made, NFQA_CFG_CMD, &command, sizeof command);
        ask(machine, &made);
    }
    for (unsigned place = 0; place < machine->count; place++) {
        struct request made = request(NFQNL_MSG_CONFIG, machine->queues[place]->number);
        uint32_t most = htonl(MAXIMUM_HELD), mask = htonl(NFQA_CFG_F_GSO);
        uint32_t flags = machine->queues[place]->whole ? mask : 0;
        struct nfqnl_msg_config_params copy = {htonl(COPIED), NFQNL_COPY_PACKET};

        attribute(&made, NFQA_CFG_PARAMS, &copy, sizeof copy);
        attribute(&made, NFQA_CFG_QUEUE_MAXLEN, &most, sizeof most);
        attribute(&made, NFQA_CFG_MASK, &mask, sizeof mask);
        attribute(&made, NFQA_CFG_FLAGS, &flags, sizeof flags);
        ask(machine, &made);
    }
}

static void enter(const char *path)
{
    int namespace = open(path, O_RDONLY | O_CLOEXEC);

    if (namespace < 0 || setns(namespace, CLONE_NEWNET) < 0)
        die(path);
    close(namespace);
}

/* Open a machine's queues. Leaves this thread in the machine's network namespace. */
static void open_machine(struct machine *machine)
{
    int process = 0, end = 0;

    machine->process = -1;
    if (sscanf(machine->namespace, "/proc/%d/ns/net%n", &process, &end) == 1
        && end == (int)strlen(machine->namespace)) {
        machine->process = (int)syscall(SYS_PIDFD_OPEN, process, 0);
        if (machine->process < 0)
            die(machine->namespace);
    }
    enter(machine->namespace);
    open_queues(machine);
    /* It stays that of this namespace wherever the thread is later. */
    machine->counters = open("/proc/thread-self/net/netfilter/nfnetlink_queue", O_RDONLY | O_CLOEXEC);
}

static void send_verdicts(struct machine *machine)
{
    /* A packet may be gone (its interface went down): the answer that says so is passed over. */
    if (machine->waiting)
        send(machine->socket, machine->verdicts, machine->waiting * 32, 0);
    machine->waiting = 0;
}

static void verdict(struct queue *queue, uint32_t number, bool lost)
{
    struct machine *machine = queue->machine;
    unsigned char *at = machine->verdicts + 32 * machine->waiting++;
    struct nlmsghdr header = {
        .nlmsg_len = 32,
        .nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT,
        .nlmsg_flags = NLM_F_REQUEST,
    };
    struct nfgenmsg family = {.res_id = htons((uint16_t)queue->number)};
    struct nlattr attribute = {.nla_len = 12, .nla_type = NFQA_VERDICT_HDR};
    struct nfqnl_msg_verdict_hdr verdict = {htonl(lost ? NF_DROP : NF_ACCEPT), number};

    memcpy(at, &header, 16);
    memcpy(at + 16, &family, 4);
    memcpy(at + 20, &attribute, 4);
    memcpy(at + 24, &verdict, 8);
}

static int by_number(const void *one, const void *other)
{
    unsigned left = (*(struct queue *const *)one)->number;
    unsigned right = (*(struct queue *const *)other)->number;

    return (left > right) - (left < right);
}

static struct queue *find_queue(const struct machine *machine, unsigned number)
{
    unsigned low = 0, high = machine->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (machine->queues[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < machine->count && machine->queues[low]->number == number ? machine->queues[low] : NULL;
}

/* One announcement of a packet. */
static void take(struct machine *machine, const unsigned char *message, size_t length, int64_t now)
{
    const struct nlmsghdr *header = (const void *)message;
    const unsigned char *packet = NULL;
    size_t at = NLMSG_LENGTH(sizeof(struct nfgenmsg)), copied = 0;
    uint32_t number = 0;
    bool numbered = false, lost;
    int64_t arrival = now, due;
    struct queue *queue;

    if (length < at || header->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
        return;
    queue = find_queue(machine, number_at(message + NLMSG_HDRLEN + 2, 2));
    if (!queue)
        return;
    while (at + NLA_HDRLEN <= length) {
        const struct nlattr *attribute = (const void *)(message + at);
        const unsigned char *value = message + at + NLA_HDRLEN;
        size_t size = attribute->nla_len;

        if (size < NLA_HDRLEN || at + size > length)
            break;
        size -= NLA_HDRLEN;
        switch (attribute->nla_type & NLA_TYPE_MASK) {
        case NFQA_PACKET_HDR:
            if (size >= 4) {
                memcpy(&number, value, 4);
                numbered = true;
            }
            break;
        case NFQA_TIMESTAMP:
            if (size >= 16 && now >= distrust_until) {
                int64_t stamped = ((int64_t)number_at(value + 4, 4) * 1000000
                                   + number_at(value + 12, 4)) * 1000 - ahead;

                if (stamped <= now && now - stamped <= LATEST)
                    arrival = stamped;
            }
            break;
        case NFQA_PAYLOAD:
            packet = value;
            copied = size;
            break;
        }
        at += NLA_ALIGN(attribute->nla_len);
    }
    if (!numbered)
        return;
    mark_active(queue);
    queue->packets++;
    if (!packet || copied < 20) {
        queue->refused++;
        verdict(queue, number, true);
        send_verdicts(machine);
        return;
    }
    due = release(queue, packet, copied, arrival, &lost);
    queue->bytes += number_at(packet + 2, 2) + ETHERNET_HEADER;
    if (!hold((struct held){due, arrivals++ << 1 | lost, queue, number})) {
        queue->refused++;
        verdict(queue, number, true);
        send_verdicts(machine);
        return;
    }
    if (lost)
        queue->lost++;
    else
        queue->delay += (double)(due - arrival);
    if (++queue->held > queue->most)
        queue->most = queue->held;
}

/* Arrival times come from the wall clock, which may be set; releases are monotonic. */
static void compare_clocks(int64_t now)
{
    int64_t found = clock_ns(CLOCK_REALTIME) - now;
    int64_t change = found > ahead ? found - ahead : ahead - found;

    if (ahead_at && change > CLOCK_STEP + (now - ahead_at) / 1000)
        distrust_until = now + WINDOW;
    ahead = found;
    ahead_at = now;
}

/* Read what has arrived for one machine, at most READ packets. */
static void receive(struct machine *machine)
{
    static unsigned char messages[READ][MESSAGE];
    static struct iovec pieces[READ];
    static struct mmsghdr headers[READ];
    int64_t now;
    int count;

    if (!pieces[0].iov_base)
        for (int place = 0; place < READ; place++) {
            pieces[place] = (struct iovec){messages[place], MESSAGE};
            headers[place].msg_hdr = (struct msghdr){.msg_iov = &pieces[place], .msg_iovlen = 1};
        }
    count = recvmmsg(machine->socket, headers, READ, MSG_DONTWAIT, NULL);
    now = clock_ns(CLOCK_MONOTONIC);
    compare_clocks(now);
    for (int place = 0; place < count; place++)
        take(machine, messages[place], headers[place].msg_len, now);
}

/* Release at most RELEASED packets that are due; how many. */
static unsigned release_some(void)
{
    struct held due[RELEASED];
    struct machine *touched[RELEASED];
    unsigned count = 0, machines_touched = 0;
    int64_t now = clock_ns(CLOCK_MONOTONIC);

    while (count < RELEASED && heap_count && heap[0].due <= now) {
        struct held first = take_first();

        if (!first.queue->machine->waiting)
            touched[machines_touched++] = first.queue->machine;
        verdict(first.queue, first.number, first.order & 1);
        due[count++] = first;
    }
    for (unsigned place = 0; place < machines_touched; place++)
        send_verdicts(touched[place]);
    /* They are gone only now: what the kernel does with them is part of being late. */
    if (count)
        now = clock_ns(CLOCK_MONOTONIC);
    for (unsigned place = 0; place < count; place++) {
        mark_active(due[place].queue);
        due[place].queue->held--;
        count_release(due[place].queue, now - due[place].due);
    }
    return count;
}

static void release_due(void)
{
    for (int turns = READ / RELEASED; turns && heap_count && release_some() == RELEASED; turns--)
        ;
}

/* Let go of a machine that has ended: an open descriptor would keep its namespace alive. */
static void close_machine(struct machine *machine)
{
    forget(machine);
    close(machine->socket);
    close(machine->process);
    machine->process = machine->socket = -1;
    machines_left--;
    pass_on((struct entry){.machine = machine});
    wake_writer();
}

enum { PACKETS, ENDED, SIGNAL };

static void watch(int descriptor, uint64_t kind, uint64_t place)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = kind << 32 | place};

    if (epoll_ctl(polled, EPOLL_CTL_ADD, descriptor, &event) < 0)
        die("epoll");
}

static void run(void)
{
    window_end = clock_ns(CLOCK_MONOTONIC) / WINDOW * WINDOW + WINDOW;
    while (machines_left) {
        struct epoll_event events[64];
        struct pollfd wait = {.fd = polled, .events = POLLIN};
        int64_t now = clock_ns(CLOCK_MONOTONIC), left = -1;
        struct timespec timeout;
        int count;

        if (now >= window_end)
            close_window(now);
        if (heap_count)
            left = heap[0].due - now;
        if (active_count && (!heap_count || window_end - now < left))
            left = window_end - now;
        if (left < 0 && (heap_count || active_count))
            left = 0;
        timeout = (struct timespec){left / 1000000000, left % 1000000000};
        ppoll(&wait, 1, left < 0 ? NULL : &timeout, NULL);
        release_due();
        count = epoll_wait(polled, events, 64, 0);
        for (int place = 0; place < count; place++) {
            struct machine *machine = machines[(uint32_t)events[place].data.u64];

            switch (events[place].data.u64 >> 32) {
            case PACKETS:
                if (machine->socket >= 0)
                    receive(machine);
                break;
            case ENDED:
                close_machine(machine);
                break;
            case SIGNAL:
                return;
            }
            release_due();
        }
    }
}

/* ---- The table. ---- */

static char *copy(const char *text)
{
    char *made = strdup(text);

    if (!made)
        die("memory");
    return made;
}

static struct queue *read_queue(const char *line)
{
    struct queue *queue = memory(1, sizeof *queue);
    unsigned whole;
    int end = 0;

    if (sscanf(line, "%u %lf %lf %" SCNd64 " %" SCNu64 " %lf %" SCNu64 " %u%n", &queue->number,
               &queue->centre, &queue->spread, &queue->slot, &queue->loss, &queue->byte,
               &queue->seed, &whole, &end) != 8
        || line[end] || queue->number > 65535 || queue->slot < 0 || whole > 1)
        wrong("not a queue: %s", line);
    queue->whole = whole;
    /* A source beyond every address. */
    queue->loss_key = path_key(queue->seed, UINT64_C(1) << 32);
    return queue;
}

static void read_table(const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t size = 0, number = 0;
    ssize_t length;

    if (!file)
        die(path);
    while ((length = getline(&line, &size, file)) > 0) {
        struct machine *machine = machine_count ? machines[machine_count - 1] : NULL;
        char *value = strchr(line, ' ');

        number++;
        if (line[length - 1] != '\n' || !value)
            wrong("%s:%zu: not a line of the table", path, number);
        line[length - 1] = 0;
        *value++ = 0;
        if (number == 1) {
            if (strcmp(line, "continuum-links") || strcmp(value, "1"))
                wrong("%s: not a table of links that this program knows", path);
        } else if (!strcmp(line, "digest")) {
            digest = copy(value);
        } else if (!strcmp(line, "state")) {
            state = copy(value);
        } else if (!strcmp(line, "series")) {
            series = copy(value);
        } else if (!strcmp(line, "machine")) {
            machines = realloc(machines, (machine_count + 1) * sizeof *machines);
            if (!machines)
                die("memory");
            machine = memory(1, sizeof *machine);
            machine->name = copy(value);
            machine->place = machine_count;
            machine->socket = machine->process = machine->counters = -1;
            machines[machine_count++] = machine;
        } else if (!strcmp(line, "namespace") && machine) {
            machine->namespace = copy(value);
        } else if (!strcmp(line, "queue") && machine) {
            struct queue *queue = read_queue(value);

            machine->queues = realloc(machine->queues, (machine->count + 1) * sizeof *machine->queues);
            if (!machine->queues)
                die("memory");
            queue->machine = machine;
            machine->queues[machine->count++] = queue;
            queue_count++;
        } else {
            wrong("%s:%zu: unknown: %s", path, number, line);
        }
    }
    free(line);
    fclose(file);
    for (unsigned place = 0; place < machine_count; place++) {
        if (!machines[place]->namespace)
            wrong("%s: machine %s has no namespace", path, machines[place]->name);
        qsort(machines[place]->queues, machines[place]->count, sizeof(struct queue *), by_number);
    }
    if (!digest || !state || !series || !machine_count)
        wrong("%s: the table is not whole", path);
    active = memory(queue_count, sizeof *active);
    machines_left = machine_count;
}

static void write_state(void)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof path, "%s.%d", state, (int)getpid());
    file = fopen(path, "we");
    if (!file || fprintf(file, "{\"process\": %d, \"configuration\": \"%s\"}\n", (int)getpid(), digest) < 0
        || fclose(file) || rename(path, state))
        die(state);
}

/* Wake up on time: a low real-time priority where it is allowed, no page to wait for, no slack. */
static void prefer_this_thread(void)
{
    struct sched_param first = {.sched_priority = 1};

    sched_setscheduler(0, SCHED_FIFO, &first);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    mlockall(MCL_CURRENT | MCL_FUTURE);
}

static void start_writer(void)
{
    pthread_attr_t settings;

    ring_event = eventfd(0, EFD_CLOEXEC);
    if (ring_event < 0)
        die("eventfd");
    pthread_attr_init(&settings);
    pthread_attr_setstacksize(&settings, STACK);
    errno = pthread_create(&writer, &settings, write_series, NULL);
    if (errno)
        die("thread");
    pthread_attr_destroy(&settings);
}

static void serve(const char *path)
{
    struct rlimit files;
    sigset_t stops;
    int stamps, on = 1, home;

    read_table(path);
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, NULL);
    /* Three descriptors for each machine, and a few of our own. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    polled = epoll_create1(EPOLL_CLOEXEC);
    stop_signals = signalfd(-1, &stops, SFD_CLOEXEC);
    if (polled < 0 || stop_signals < 0)
        die("epoll");
    watch(stop_signals, SIGNAL, 0);
    /* Make the kernel note when packets arrive, for as long as this socket is open. */
    stamps = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(stamps, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    compare_clocks(clock_ns(CLOCK_MONOTONIC));
    for (unsigned place = 0; place < machine_count; place++) {
        open_machine(machines[place]);
        watch(machines[place]->socket, PACKETS, place);
        if (machines[place]->process >= 0)
            watch(machines[place]->process, ENDED, place);
    }
    if (home < 0 || setns(home, CLONE_NEWNET) < 0)
        die("network namespace");
    close(home);
    start_writer();
    prefer_this_thread();
    write_state();
    run();
    close_window(clock_ns(CLOCK_MONOTONIC));
    atomic_store(&ring_ended, true);
    wake_writer();
    pthread_join(writer, NULL);
    unlink(state);
}

static void probe(void)
{
    struct queue queue = {.number = 1};
    struct queue *queues[] = {&queue};
    struct machine machine = {.count = 1, .queues = queues};

    queue.machine = &machine;
    open_queues(&machine);
}

static void replay(const char *path)
{
    char *line = NULL;
    size_t size = 0;

    read_table(path);
    while (getline(&line, &size, stdin) > 0) {
        unsigned place, number, byte;
        int64_t arrival;
        unsigned char packet[COPIED];
        size_t length = 0;
        int end = 0;
        struct queue *queue = NULL;
        bool lost;

        if (sscanf(line, "%u %u %" SCNd64 " %n", &place, &number, &arrival, &end) == 3
            && place < machine_count)
            queue = find_queue(machines[place], number);
        while (length < COPIED && sscanf(line + end, "%2x", &byte) == 1) {
            packet[length++] = (unsigned char)byte;
            end += 2;
        }
        if (!queue || length < 20)
            wrong("not a packet of the table: %s", line);
        printf("%" PRId64, release(queue, packet, length, arrival, &lost));
        puts(lost ? " lost" : "");
    }
    free(line);
}

int main(int count, char **words)
{
    if (count == 2 && !strcmp(words[1], "--probe")) {
        probe();
    } else if (count == 3 && !strcmp(words[1], "--replay")) {
        replay(words[2]);
    } else if (count == 3) {
        serve(words[2]);
    } else {
        fprintf(stderr, "usage: delay_emulator IDENTITY TABLE | --probe | --replay TABLE\n");
        return 2;
    }
    return 0;
}
