/* A model provider that costs almost nothing: it plays one prepared answer to every POST, in the clear and over TLS.
 *
 * The answer is a file: the HTTP head and first events (`head` bytes), then ticks of `tick` bytes each, then an end.
 * The head is sent at once; then one tick every `period`; the end goes with the last tick. A period of 0 sends it all at once.
 * `together` lets all streams tick at the same moments, `apart` spreads their phases evenly.
 *
 * Usage: upstream [CERTIFICATE KEY], both PEM; with them it takes TLS on a port of its own. TLS is compiled in where -DTLS says so.
 *
 * It prints its ports (the second is 0 without TLS), then obeys lines on stdin, and ends when stdin does:
 *   play FILE HEAD TICK TICKS PERIOD_US together|apart     -> ok
 *   stats                                                  -> one line of JSON, and the counters start again
 */
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef void SSL;
#endif

#define HEAD_MAX 16384
#define GOLDEN 0.6180339887498949

typedef struct Stream {
    int fd, answering, wants_out;
    SSL *tls;                    /* NULL in the clear */
    size_t have;                 /* bytes in `in` */
    uint64_t body_left;          /* of the request's body, still to come */
    size_t sent, allowed, ticks; /* of the answer */
    uint64_t due;
    struct Stream *before, *after; /* the queue of ticking streams, by due time */
    char in[HEAD_MAX + 1];
} Stream;

static struct {
    char *bytes;
    size_t size, head, tick, ticks;
    uint64_t period;
    int together;
} script;

static struct {
    uint64_t requests, connections, refused, aborted, bytes;
    Histogram late; /* how late the ticks were */
} stats;

static int poller, timer, listener, tls_listener = -1;
static Stream *first, *last, *dropped;
static uint64_t phases; /* streams that were given a phase so far */
static char sink[1 << 18];
static const char REFUSAL[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
static const char HEALTHY[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/* ---- bytes in and out, as recv and send do, in the clear or over TLS */

#ifdef TLS
static SSL_CTX *context;

static void read_certificate(const char *certificate, const char *key) {
    context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 || SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
}

static void secure(Stream *s) {
    s->tls = SSL_new(context);
    if (!s->tls || SSL_set_fd(s->tls, s->fd) != 1) die("SSL_new");
    SSL_set_accept_state(s->tls);
}

static void unsecure(Stream *s) { if (s->tls) SSL_free(s->tls); }

static ssize_t outcome(Stream *s, int n) {
    if (n > 0) return n;
    int why = SSL_get_error(s->tls, n);
    ERR_clear_error();
    if (why == SSL_ERROR_ZERO_RETURN) return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

static ssize_t receive(Stream *s, void *to, size_t room) {
    return s->tls ? outcome(s, SSL_read(s->tls, to, (int)room)) : recv(s->fd, to, room, 0);
}

static ssize_t transmit(Stream *s, const void *from, size_t size) {
    return s->tls ? outcome(s, SSL_write(s->tls, from, (int)size)) : send(s->fd, from, size, MSG_NOSIGNAL);
}

static int more_decrypted(Stream *s) { return s->fd >= 0 && s->tls && SSL_pending(s->tls); }
#else
static void read_certificate(const char *certificate, const char *key) { (void)certificate, (void)key; errno = ENOTSUP; die("TLS"); }
static void secure(Stream *s) { (void)s; }
static void unsecure(Stream *s) { (void)s; }
static ssize_t receive(Stream *s, void *to, size_t room) { return recv(s->fd, to, room, 0); }
static ssize_t transmit(Stream *s, const void *from, size_t size) { return send(s->fd, from, size, MSG_NOSIGNAL); }
static int more_decrypted(Stream *s) { (void)s; return 0; }
#endif

/* ---- the queue of ticking streams */

static void unlink_stream(Stream *s) {
    if (!s->due) return;
    if (s->before) s->before->after = s->after; else first = s->after;
    if (s->after) s->after->before = s->before; else last = s->before;
    s->before = s->after = NULL;
    s->due = 0;
}

/* All streams have one period, so walking from the end is nearly always zero steps. */
static void link_stream(Stream *s, uint64_t due) {
    Stream *at = last;
    while (at && at->due > due) at = at->before;
    s->due = due;
    s->before = at;
    s->after = at ? at->after : first;
    if (s->after) s->after->before = s; else last = s;
    if (at) at->after = s; else first = s;
}

static uint64_t first_due(uint64_t now) {
    double turn = script.together ? 0 : (double)(phases++) * GOLDEN;
    uint64_t phase = (uint64_t)((turn - (double)(uint64_t)turn) * (double)script.period);
    return (now / script.period + 1) * script.period + phase;
}

static void arm(void) {
    static uint64_t armed;
    uint64_t due = first ? first->due : 0;
    if (due == armed) return;
    armed = due;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(due / SECOND), .tv_nsec = (long)(due % SECOND)}};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL)) die("timerfd_settime");
}

/* ---- one stream */

static void watch(Stream *s, int out) {
    if (s->wants_out == out) return;
    struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = s};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &e)) die("epoll_ctl");
    s->wants_out = out;
}

/* Freed only after the epoll round, whose other events may still point at it. */
static void drop(Stream *s) {
    if (s->fd < 0) return;
    if (s->answering) stats.aborted++;
    unlink_stream(s);
    unsecure(s);
    close(s->fd);
    s->fd = -1;
    s->after = dropped;
    dropped = s;
}

static void free_dropped(void) {
    while (dropped) {
        Stream *s = dropped;
        dropped = s->after;
        free(s);
    }
}

static void pump(Stream *s) {
    while (s->sent < s->allowed) {
        ssize_t n = transmit(s, script.bytes + s->sent, s->allowed - s->sent);
        if (n < 0 && errno == EAGAIN) { watch(s, 1); return; }
        if (n < 0) { drop(s); return; }
        s->sent += (size_t)n;
        stats.bytes += (uint64_t)n;
    }
    watch(s, 0);
    if (s->sent == script.size) s->answering = 0;
}

static void answer(Stream *s) {
    stats.requests++;
    s->answering = 1;
    s->sent = s->ticks = 0;
    s->allowed = script.period ? script.head : script.size;
    if (script.period) link_stream(s, first_due(now_ns()));
    pump(s);
}

static void tick(Stream *s) {
    uint64_t next = s->due + script.period;
    unlink_stream(s);
    s->allowed += script.tick;
    if (++s->ticks == script.ticks) s->allowed = script.size;
    else link_stream(s, next);
    pump(s);
}

static void tick_all(void) {
    uint64_t now = now_ns(), ignored;
    if (read(timer, &ignored, sizeof ignored) < 0 && errno != EAGAIN) die("timerfd");
    while (first && first->due <= now) {
        observe(&stats.late, now - first->due);
        tick(first);
    }
}

static int known_path(const char *head) {
    return strstr(head, "/messages") || strstr(head, "/model/") || strstr(head, "/completions") || strstr(head, "/responses");
}

/* A whole head stands in `in`: learn the body's length, or refuse. Returns the length of the head, 0 for "not yet". */
static size_t read_head(Stream *s) {
    s->in[s->have] = 0;
    char *end = strstr(s->in, "\r\n\r\n");
    if (!end) {
        if (s->have == HEAD_MAX) drop(s);
        return 0;
    }
    end[2] = 0;
    if (!strncmp(s->in, "GET ", 4)) { /* routers ask for their upstream's health */
        s->have = 0;
        (void)!transmit(s, HEALTHY, sizeof HEALTHY - 1);
        return 0;
    }
    const char *length = header(s->in, "content-length");
    if (strncmp(s->in, "POST ", 5) || !length || !known_path(s->in)) {
        stats.refused++;
        (void)!transmit(s, REFUSAL, sizeof REFUSAL - 1);
        drop(s);
        return 0;
    }
    s->body_left = strtoull(length, NULL, 10);
    return (size_t)(end - s->in) + 4;
}

static void feed(Stream *s) {
    size_t head = read_head(s);
    if (!head) return;
    uint64_t body = s->have - head;
    if (body > s->body_left) { drop(s); return; } /* a second request before the first answer: no client here does that */
    s->body_left -= body;
    s->have = 0;
    if (!s->body_left) answer(s);
}

static void take_some(Stream *s) {
    int in_body = s->body_left > 0;
    char *to = in_body ? sink : s->in + s->have;
    size_t room = in_body ? sizeof sink : HEAD_MAX - s->have;
    ssize_t n = receive(s, to, room);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0 || s->answering || (in_body && (uint64_t)n > s->body_left)) { drop(s); return; }
    if (in_body) {
        s->body_left -= (uint64_t)n;
        if (!s->body_left) answer(s);
    } else {
        s->have += (size_t)n;
        feed(s);
    }
}

static void readable(Stream *s) {
    do take_some(s);
    while (more_decrypted(s));
}

static void accept_all(int from) {
    for (int fd; (fd = accept4(from, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Stream *s = need(calloc(1, sizeof *s));
        s->fd = fd;
        if (from == tls_listener) secure(s);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
        stats.connections++;
    }
}

/* ---- what the bench says */

static void play(const char *line) {
    char path[1024], mode[16];
    size_t head, tick_size, ticks;
    unsigned long long period;
    if (sscanf(line, "play %1023s %zu %zu %zu %llu %15s", path, &head, &tick_size, &ticks, &period, mode) != 6) {
        puts("what?");
        return;
    }
    while (first) drop(first);
    free(script.bytes);
    script.bytes = slurp(path, &script.size);
    script.head = head;
    script.tick = tick_size;
    script.ticks = ticks;
    script.period = period * 1000;
    script.together = !strcmp(mode, "together");
    puts("ok");
}

static void print_stats(void) {
    printf("{\"requests\": %llu, \"connections\": %llu, \"refused\": %llu, \"aborted\": %llu, \"bytes\": %llu, ",
           (unsigned long long)stats.requests, (unsigned long long)stats.connections, (unsigned long long)stats.refused,
           (unsigned long long)stats.aborted, (unsigned long long)stats.bytes);
    print_histogram("late_ms", &stats.late);
    puts("}");
    memset(&stats, 0, sizeof stats);
}

static void obey(void) {
    static char line[2048];
    static size_t have;
    ssize_t n = read(0, line + have, sizeof line - 1 - have);
    if (n <= 0) exit(0);
    have += (size_t)n;
    line[have] = 0;
    if (!strchr(line, '\n')) return; /* the bench writes one line and waits for its answer */
    if (!strncmp(line, "play ", 5)) play(line);
    else if (!strncmp(line, "stats", 5)) print_stats();
    else puts("what?");
    fflush(stdout);
    have = 0;
}

/* ---- the loop */

static void watch_source(int fd, void *mark) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = mark};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
}

static int listen_on(int *port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof here;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, length) || listen(fd, 4096)) die("listen");
    if (getsockname(fd, (struct sockaddr *)&here, &length)) die("getsockname");
    *port = ntohs(here.sin_port);
    return fd;
}

static void open_all(int tls) {
    int port, tls_port = 0;
    listener = listen_on(&port);
    if (tls) tls_listener = listen_on(&tls_port);
    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (poller < 0 || timer < 0) die("epoll");
    watch_source(listener, &listener);
    if (tls) watch_source(tls_listener, &tls_listener);
    watch_source(timer, &timer);
    watch_source(0, NULL);
    printf("%d %d\n", port, tls_port);
    fflush(stdout);
}

static void serve(struct epoll_event *e) {
    if (e->data.ptr == &listener) accept_all(listener);
    else if (e->data.ptr == &tls_listener) accept_all(tls_listener);
    else if (e->data.ptr == &timer) tick_all();
    else if (!e->data.ptr) obey();
    else {
        Stream *s = e->data.ptr;
        if (s->fd >= 0 && e->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(s);
        if (s->fd >= 0 && e->events & EPOLLOUT) pump(s);
    }
}

int main(int count, char **values) {
    struct epoll_event events[256];
    if (count == 3) read_certificate(values[1], values[2]);
    open_all(count == 3);
    for (;;) {
        int n = epoll_wait(poller, events, 256, -1);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) serve(&events[i]);
        free_dropped();
        arm();
    }
}
