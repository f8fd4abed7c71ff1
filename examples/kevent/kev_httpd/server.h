// What the parts of the server share: one queue, the callbacks behind its events, the connections.
#ifndef KEV_HTTPD_SERVER_H
#define KEV_HTTPD_SERVER_H

#include <keel/kevent_sys/kevent.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { cookie_buckets = 4096 };

// Who is told of an event: what ukevent.ptr points to, but for the events of aio_sendfile_path.
struct watcher {
  void (*told)(struct watcher* self, const struct ukevent* event);
};

struct connection;

struct connection_list {
  struct connection *first, *last;
};

struct server {
  int queue;
  int listener;
  struct watcher accepts, ticks, stops;
  bool stopping;
  bool accept_stalled;  // no room for another connection, or no descriptor
  uint64_t idle_s, now_s;
  unsigned connections, connections_max;
  unsigned sends, sends_max;  // files that are being sent: each needs a descriptor of its own
  uint64_t answers;
  struct connection_list idle;                 // all that wait for their peer, the longest first
  struct connection_list queued;               // for another send to end
  struct connection_list dead;                 // to be freed when no event can name them any more
  struct connection* sending[cookie_buckets];  // by cookie
};

extern struct server server;

// Registers for events; returns 0 or a negative errno.
int watch(struct watcher* watcher, uint32_t type, struct kevent_id id, uint32_t event, uint32_t flags);

void accept_connections(void);
// A file was sent, or its send failed.
void file_sent(const struct ukevent* event);
void close_idle_connections(void);
// After each batch of events.
void bury_the_dead(void);
// When the queue is closed.
void close_all_connections(void);

#endif
