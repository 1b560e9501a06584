/* A client that costs almost nothing: N connections, each sending one prepared request again and again, and checking every answer.
 *
 * Usage: load port=P request=FILE [connections=32] [warm=0.5] [seconds=2] [ramp=0] [once=0] [mark=TEXT] [end=TEXT] [least=0]
 *             [period=0] [opening=0]
 *
 *   closed loop (once=0)   each connection sends its next request when the last answer is complete
 *   streams (once=1)       each sends one request, the starts spread over `ramp` seconds, and all answers are read to their end
 *   mark, least            TEXT stands once in every event; an answer must have at least `least` of them
 *   end                    TEXT must stand in the last bytes of every answer
 *   period, opening        after `opening` events they are due each `period` seconds, and how late they come is told
 *
 * The window that counts is `seconds` long and begins after `warm`. It prints "begin" and "end" as the window does, then one line of JSON.
 */
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX 8192
#define KEEP 512 /* the last bytes of a body that are kept: for marks that are cut in two, and for its end */
#define CHUNK (1 << 18)
#define GRACE (20 * SECOND)
#define FAILURES_MAX 1000

typedef enum { SENDING, HEAD, BODY, CHUNK_SIZE, CHUNK_END, TRAILER, DONE } State;

typedef struct {
    int fd, chunked, closing;
    State state;
    size_t sent, head_have, kept;
    uint64_t left, events;           /* bytes of this body or chunk; events of this answer */
    uint64_t began, last_event, origin; /* `origin`: when the event before the first would have come, had all been as quick as the quickest */
    char kept_bytes[KEEP];
    char head[HEAD_MAX + 1];
} Connection;

static struct {
    const char *request_bytes, *mark, *end;
    size_t request_size, mark_size, end_size;
    int port, connections, once;
    uint64_t warm, seconds, ramp, least, period, opening;
} want;

typedef struct { uint64_t requests, events, bytes; } Counts;

static Counts counts, at_begin, at_end;
static uint64_t failed, reconnects, window_began, window_ended, started;
static int poller, opened, finished;
static char first_failure[400], raw[CHUNK], work[KEEP + CHUNK];
static Histogram first_byte, first_event, gap, late, whole;
static Connection *all;

static int in_window(void) { return window_began && !window_ended; }

static void watch(Connection *c, int out) {
    struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e)) die("epoll_ctl");
}

/* ---- one connection: open, send, fail, finish */

static void open_connection(Connection *c) {
    int on = 1;
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)want.port)};
    memset(c, 0, offsetof(Connection, kept_bytes)); /* and so it is SENDING, as soon as it is connected */
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&there, sizeof there) && errno != EINPROGRESS) die("connect");
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
}

static void retire(Connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    finished++;
}

static void again(Connection *c) {
    if (want.once || window_ended) { retire(c); return; }
    close(c->fd);
    reconnects++;
    open_connection(c);
}

__attribute__((format(printf, 2, 3))) static void fail(Connection *c, const char *format, ...) {
    if (!failed++) {
        va_list values;
        va_start(values, format);
        vsnprintf(first_failure, sizeof first_failure, format, values);
        va_end(values);
    }
    again(c);
}

static void push(Connection *c) {
    if (!c->began) c->began = now_ns();
    ssize_t n = send(c->fd, want.request_bytes + c->sent, want.request_size - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) { fail(c, "send: %s", strerror(errno)); return; }
    if (n > 0) c->sent += (size_t)n;
    int partial = c->sent < want.request_size;
    if (partial != (c->state == SENDING)) watch(c, partial);
    c->state = partial ? SENDING : HEAD;
}

static void next_request(Connection *c) {
    c->sent = c->head_have = c->kept = 0;
    c->events = c->began = c->last_event = c->origin = 0;
    c->state = HEAD; /* `push` makes it SENDING only if the request does not fit at once */
    push(c);
}

static void complete(Connection *c, uint64_t now) {
    if (c->events < want.least) { fail(c, "%llu events, not %llu", (unsigned long long)c->events, (unsigned long long)want.least); return; }
    if (!memmem(c->kept_bytes, c->kept, want.end, want.end_size)) { fail(c, "the answer does not end as it should"); return; }
    counts.requests++;
    if (in_window() || want.once) observe(&whole, now - c->began);
    if (want.once || window_ended) retire(c);
    else if (c->closing) again(c);
    else next_request(c);
}

/* ---- the bytes of an answer */

/* Late is an event by as much as it came after the quickest of its stream, the time that lies between them taken off. */
static void time_events(Connection *c, uint64_t fresh, uint64_t now) {
    for (uint64_t number = c->events + 1; number <= c->events + fresh; number++) {
        if (number <= want.opening) continue;
        uint64_t origin = now - number * want.period;
        if (!c->origin || origin < c->origin) c->origin = origin;
        if (in_window()) observe(&late, origin - c->origin);
    }
}

static void count_events(Connection *c, uint64_t fresh, uint64_t now) {
    if (!fresh) return;
    if (!c->events && (in_window() || want.once)) observe(&first_event, now - c->began);
    if (c->events && in_window()) observe(&gap, now - c->last_event);
    if (want.period) time_events(c, fresh, now);
    c->events += fresh;
    c->last_event = now;
    counts.events += fresh;
}

/* `fresh` new bytes of the body stand in `work` behind the kept ones. */
static void take_body(Connection *c, size_t fresh, uint64_t now) {
    size_t size = c->kept + fresh;
    counts.bytes += fresh;
    if (want.mark_size) {
        size_t overlap = c->kept < want.mark_size - 1 ? c->kept : want.mark_size - 1;
        uint64_t found = 0;
        char *at = work + c->kept - overlap, *stop = work + size;
        while ((at = memmem(at, (size_t)(stop - at), want.mark, want.mark_size))) {
            found++;
            at += want.mark_size;
        }
        count_events(c, found, now);
    }
    c->kept = size < KEEP ? size : KEEP;
    memcpy(c->kept_bytes, work + size - c->kept, c->kept);
}

static int take_head(Connection *c) {
    c->head[c->head_have - 2] = 0;
    const char *length = header(c->head, "content-length"), *coding = header(c->head, "transfer-encoding"), *keep = header(c->head, "connection");
    if (strncmp(c->head, "HTTP/1.1 200", 12)) { fail(c, "answered %.300s", c->head); return 0; }
    if (!length && !coding) { fail(c, "neither a length nor chunks"); return 0; }
    c->chunked = coding != NULL;
    c->closing = keep && !strncasecmp(keep, "close", 5);
    c->left = c->chunked ? 0 : strtoull(length, NULL, 10);
    c->state = c->chunked ? CHUNK_SIZE : c->left ? BODY : DONE;
    return 1;
}

/* A whole line (of head, chunk size or trailer) stands in `head`; returns 0 when the answer is broken. */
static int take_line(Connection *c, size_t size) {
    if (c->state == HEAD) {
        if (size < 4 || memcmp(c->head + size - 4, "\r\n\r\n", 4)) return 1; /* a head is gathered whole */
        if (!take_head(c)) return 0;
    } else if (c->state == CHUNK_SIZE) {
        c->left = strtoull(c->head, NULL, 16);
        c->state = c->left ? BODY : TRAILER;
    } else if (c->state == CHUNK_END) {
        c->state = CHUNK_SIZE;
    } else if (size == 2) {
        c->state = DONE;
    }
    c->head_have = 0;
    return 1;
}

static int take_byte(Connection *c, char byte) {
    if (c->head_have == HEAD_MAX) { fail(c, "a line without an end"); return 0; }
    c->head[c->head_have++] = byte;
    return byte == '\n' ? take_line(c, c->head_have) : 1;
}

/* Splits what came into head, chunk sizes and body. Returns the bytes of body put behind the kept ones, or -1 after a failure. */
static ssize_t split(Connection *c, size_t size) {
    size_t at = 0, body = 0;
    while (at < size) {
        if (c->state == DONE) { fail(c, "more bytes than the answer has"); return -1; }
        if (c->state != BODY) {
            if (!take_byte(c, raw[at++])) return -1;
            continue;
        }
        size_t n = size - at < c->left ? size - at : (size_t)c->left;
        memcpy(work + c->kept + body, raw + at, n);
        at += n;
        body += n;
        c->left -= n;
        if (!c->left) c->state = c->chunked ? CHUNK_END : DONE;
    }
    return (ssize_t)body;
}

static void readable(Connection *c) {
    ssize_t n = recv(c->fd, raw, sizeof raw, 0);
    if (n < 0 && errno == EAGAIN) return;
    uint64_t now = now_ns();
    if (n <= 0) {
        if (c->state == HEAD && !c->head_have && !want.once) again(c); /* closed between two requests */
        else fail(c, "closed in the middle: %s", n ? strerror(errno) : "end of stream");
        return;
    }
    if (c->state == SENDING) { raw[n - 1] = 0; fail(c, "answered too early: %.300s", raw); return; }
    if (c->state == HEAD && !c->head_have && (in_window() || want.once)) observe(&first_byte, now - c->began);
    memcpy(work, c->kept_bytes, c->kept);
    ssize_t body = split(c, (size_t)n);
    if (body < 0) return;
    if (body) take_body(c, (size_t)body, now);
    if (c->state == DONE) complete(c, now);
}

/* ---- time */

static void open_due(uint64_t now) {
    while (opened < want.connections) {
        if (now < started + want.ramp * (uint64_t)opened / (uint64_t)want.connections) return;
        open_connection(&all[opened++]);
    }
}

static void mark_window(uint64_t now) {
    if (!window_began && now >= started + want.warm) {
        at_begin = counts;
        window_began = now;
        puts("begin");
        fflush(stdout);
    } else if (window_began && !window_ended && now >= window_began + want.seconds) {
        at_end = counts;
        window_ended = now;
        puts("end");
        fflush(stdout);
    }
}

static int wait_ms(uint64_t now) {
    uint64_t next = !window_began ? started + want.warm : !window_ended ? window_began + want.seconds : now + SECOND / 10;
    if (opened < want.connections) {
        uint64_t due = started + want.ramp * (uint64_t)opened / (uint64_t)want.connections;
        if (due < next) next = due;
    }
    return next <= now ? 0 : (int)((next - now + 999999) / 1000000);
}

static int over(uint64_t now) {
    if (now > started + want.ramp + want.warm + want.seconds + GRACE) return 1;
    if (failed > FAILURES_MAX) return 1;
    return window_ended && opened == want.connections && finished == want.connections;
}

/* ---- from the arguments to the report */

static const char *argument(int count, char **values, const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (int i = 1; i < count; i++)
        if (!strncmp(values[i], name, length) && values[i][length] == '=') return values[i] + length + 1;
    return otherwise;
}

static uint64_t duration(const char *text) { return (uint64_t)(atof(text) * (double)SECOND); }

static void read_arguments(int n, char **v) {
    want.port = atoi(argument(n, v, "port", "0"));
    want.connections = atoi(argument(n, v, "connections", "32"));
    want.once = atoi(argument(n, v, "once", "0"));
    want.warm = duration(argument(n, v, "warm", "0.5"));
    want.seconds = duration(argument(n, v, "seconds", "2"));
    want.ramp = duration(argument(n, v, "ramp", "0"));
    want.least = strtoull(argument(n, v, "least", "0"), NULL, 10);
    want.period = duration(argument(n, v, "period", "0"));
    want.opening = strtoull(argument(n, v, "opening", "0"), NULL, 10);
    want.mark = argument(n, v, "mark", "");
    want.end = argument(n, v, "end", "");
    want.mark_size = strlen(want.mark);
    want.end_size = strlen(want.end);
    want.request_bytes = slurp(argument(n, v, "request", ""), &want.request_size);
}

static void report(void) {
    if (!window_ended) { /* gave up: nothing counts */
        window_began = window_ended = now_ns();
        at_end = at_begin;
    }
    double seconds = (double)(window_ended - window_began) / 1e9;
    printf("{\"seconds\": %.6f, \"requests\": %llu, \"events\": %llu, \"bytes\": %llu, ", seconds,
           (unsigned long long)(at_end.requests - at_begin.requests), (unsigned long long)(at_end.events - at_begin.events),
           (unsigned long long)(at_end.bytes - at_begin.bytes));
    printf("\"answers\": %llu, \"failed\": %llu, \"reconnects\": %llu, \"unfinished\": %d, \"first_failure\": \"",
           (unsigned long long)counts.requests, (unsigned long long)failed, (unsigned long long)reconnects, want.connections - finished);
    for (const char *at = first_failure; *at; at++) putchar(*at < ' ' || *at == '"' || *at == '\\' ? ' ' : *at);
    printf("\", ");
    print_histogram("first_byte_ms", &first_byte);
    printf(", ");
    print_histogram("first_event_ms", &first_event);
    printf(", ");
    print_histogram("gap_ms", &gap);
    printf(", ");
    print_histogram("late_ms", &late);
    printf(", ");
    print_histogram("answer_ms", &whole);
    puts("}");
}

static void serve(const struct epoll_event *e) {
    Connection *c = e->data.ptr;
    int fd = c->fd;
    if (fd >= 0 && e->events & EPOLLOUT && c->state == SENDING) push(c);
    if (fd >= 0 && c->fd == fd && e->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
}

int main(int count, char **values) {
    struct epoll_event events[256];
    read_arguments(count, values);
    all = need(calloc((size_t)want.connections, sizeof *all));
    poller = epoll_create1(0);
    started = now_ns();
    for (uint64_t now = started; !over(now); now = now_ns()) {
        open_due(now);
        mark_window(now);
        int n = epoll_wait(poller, events, 256, wait_ms(now));
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) serve(&events[i]);
    }
    report();
    return 0;
}
