// One connection: receive a head, answer it, and again. While an answer is on its way nothing is received, so
// the peer cannot make us store more than one head; what comes meanwhile is found when the answer is done.

#define _GNU_SOURCE
#include "request.h"
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct connection {
  struct watcher watcher;
  struct connection *before, *after;  // in one of the server's lists
  struct connection* next;            // in its bucket of server.sending
  struct connection_list* list;
  uint64_t waits_since_s;
  int fd;
  bool keep_alive;
  bool lingering;  // everything is sent: read what still comes until the peer closes too
  bool closing;    // as soon as its send has ended
  long cookie;     // of the file that is being sent; 0: none
  uint64_t file_bytes;
  char* file_path;  // of a send that is queued
  char* input;      // head_max bytes, while there is something in it
  size_t input_size;
  char* output;  // what send() did not take at once
  size_t output_size;
};

static void leave_list(struct connection* c) {
  if (c->list == NULL) return;
  *(c->before != NULL ? &c->before->after : &c->list->first) = c->after;
  *(c->after != NULL ? &c->after->before : &c->list->last) = c->before;
  c->before = c->after = NULL;
  c->list = NULL;
}

static void enter_list(struct connection_list* list, struct connection* c) {
  leave_list(c);
  c->list = list;
  c->before = list->last;
  *(list->last != NULL ? &list->last->after : &list->first) = c;
  list->last = c;
}

// Its peer did something: the time that it may wait begins anew.
static void touch(struct connection* c) {
  c->waits_since_s = server.now_s;
  enter_list(&server.idle, c);
}

static void release(struct connection* c) {
  leave_list(c);
  close(c->fd);
  free(c->file_path);
  free(c->input);
  free(c->output);
  free(c);
  --server.connections;
}

void bury_the_dead(void) {
  const bool any = server.dead.first != NULL;
  while (server.dead.first != NULL) release(server.dead.first);
  if (any && server.accept_stalled) accept_connections();
}

// The socket must outlive what is being sent on it, and the memory every event that was collected already.
static void close_connection(struct connection* c) {
  if (!c->closing) {
    struct ukevent gone = {.type = KEVENT_SOCKET, .id = {.raw = {(uint32_t)c->fd}}};
    kevent_ctl(server.queue, KEVENT_CTL_REMOVE, 1, &gone);
    shutdown(c->fd, SHUT_RDWR);
  }
  c->closing = true;
  if (c->cookie == 0) {
    enter_list(&server.dead, c);
  } else {
    leave_list(c);
  }
}

// ---- answers

static const char* reason(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 431: return "Request Header Fields Too Large";
    default: return "Service Unavailable";
  }
}

static const char* content_type(const char* path) {
  static const char* const types[][2] = {{".html", "text/html; charset=utf-8"},
                                         {".txt", "text/plain; charset=utf-8"},
                                         {".css", "text/css"},
                                         {".js", "text/javascript"},
                                         {".json", "application/json"},
                                         {".png", "image/png"},
                                         {".jpg", "image/jpeg"},
                                         {".svg", "image/svg+xml"}};
  const char* end = strrchr(path, '.');
  for (size_t i = 0; end != NULL && i < sizeof types / sizeof types[0]; ++i) {
    if (strcmp(end, types[i][0]) == 0) return types[i][1];
  }
  return "application/octet-stream";
}

static int write_head(char* to, size_t room, int status, bool keep_alive, const char* type, uint64_t bytes) {
  return snprintf(to, room,
                  "HTTP/1.1 %d %s\r\nServer: kev_httpd\r\nContent-Type: %s\r\nContent-Length: %llu\r\n%s"
                  "Connection: %s\r\n\r\n",
                  status, reason(status), type, (unsigned long long)bytes,
                  status == 405 ? "Allow: GET, HEAD\r\n" : "", keep_alive ? "keep-alive" : "close");
}

static void answered(struct connection* c) {
  ++server.answers;
  touch(c);
  if (c->keep_alive) return;
  c->lingering = true;
  shutdown(c->fd, SHUT_WR);
}

// Sends what is left of the output. False: the rest has to wait, or the connection is closed.
static bool flush(struct connection* c) {
  while (c->output_size > 0) {
    const ssize_t n = send(c->fd, c->output, c->output_size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      if (errno != EAGAIN) close_connection(c);
      return false;
    }
    c->output_size -= (size_t)n;
    memmove(c->output, c->output + n, c->output_size);
  }
  if (c->output == NULL) return true;
  free(c->output);
  c->output = NULL;
  answered(c);
  return true;
}

static void send_text(struct connection* c, const char* text, int size) {
  c->output = size > 0 ? malloc((size_t)size) : NULL;
  if (c->output == NULL) {
    close_connection(c);
    return;
  }
  memcpy(c->output, text, (size_t)size);
  c->output_size = (size_t)size;
}

static void refuse(struct connection* c, int status, bool head) {
  char text[512];
  const char* const body = reason(status);
  const int size = write_head(text, sizeof text, status, c->keep_alive, "text/plain", strlen(body) + 1);
  const int whole = head ? size : size + snprintf(text + size, sizeof text - (size_t)size, "%s\n", body);
  send_text(c, text, whole);
}

static void start_send(struct connection* c, char* path) {
  char head[512];
  const int size = write_head(head, sizeof head, 200, c->keep_alive, content_type(path), c->file_bytes);
  c->cookie = aio_sendfile_path(server.queue, c->fd, head, (size_t)size, path, 0, c->file_bytes);
  if (c->cookie < 0) {
    c->cookie = 0;
    close_connection(c);
    return;
  }
  struct connection** bucket = &server.sending[c->cookie % cookie_buckets];
  c->next = *bucket;
  *bucket = c;
  ++server.sends;
}

static void start_queued_sends(void) {
  while (server.queued.first != NULL && server.sends < server.sends_max) {
    struct connection* c = server.queued.first;
    char* path = c->file_path;
    c->file_path = NULL;
    touch(c);
    start_send(c, path);
    free(path);
  }
}

// 200, with the file's size; or why it is not served. Looks the name up, but does not open the file: that may
// take long, and is what aio_sendfile_path is for.
static int look_up(const char* path, uint64_t* bytes) {
  struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  const long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
  if (fd < 0) return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? 503 : 404;
  struct stat about;
  const bool is_file = fstat((int)fd, &about) == 0 && S_ISREG(about.st_mode);
  close((int)fd);
  *bytes = is_file ? (uint64_t)about.st_size : 0;
  return is_file ? 200 : 404;
}

static void answer(struct connection* c, size_t size) {
  struct request request;
  parse_request(&request, c->input, size);
  c->input_size -= size;
  memmove(c->input, c->input + size, c->input_size);

  c->keep_alive = request.keep_alive && request.status != 400;
  const int status = request.status == 200 ? look_up(request.path, &c->file_bytes) : request.status;
  if (status != 200) {
    refuse(c, status, request.head);
  } else if (request.head) {
    char head[512];
    const char* type = content_type(request.path);
    send_text(c, head, write_head(head, sizeof head, 200, c->keep_alive, type, c->file_bytes));
  } else if (server.sends < server.sends_max) {
    start_send(c, request.path);
  } else {
    c->file_path = strdup(request.path);
    if (c->file_path == NULL) {
      close_connection(c);
    } else {
      enter_list(&server.queued, c);
    }
  }
}

// ---- input

// False: nothing more for now, or the connection is closed.
static bool receive(struct connection* c) {
  if (c->input == NULL) c->input = malloc(head_max);
  if (c->input == NULL) {
    close_connection(c);
    return false;
  }
  const ssize_t n = recv(c->fd, c->input + c->input_size, head_max - c->input_size, MSG_DONTWAIT);
  if (n > 0) {
    c->input_size += (size_t)n;
    return true;
  }
  if (n < 0 && errno == EINTR) return true;
  if (n == 0 || errno != EAGAIN) close_connection(c);
  if (c->input_size == 0) {
    free(c->input);
    c->input = NULL;
  }
  return false;
}

// Goes on as far as it can.
static void proceed(struct connection* c) {
  while (!c->closing && c->cookie == 0 && c->file_path == NULL && flush(c)) {
    if (c->lingering) c->input_size = 0;
    const size_t head = c->input_size > 0 ? head_size(c->input, c->input_size) : 0;
    if (head > 0) {
      answer(c, head);
    } else if (c->input_size == head_max) {
      c->keep_alive = false;
      refuse(c, 431, false);
    } else if (!receive(c)) {
      return;
    }
  }
}

static void on_socket(struct watcher* self, const struct ukevent* event) {
  (void)event;
  struct connection* c = (struct connection*)self;
  if (c->closing) return;
  // The peer takes in what we send: it is alive.
  if (c->cookie != 0) touch(c);
  proceed(c);
}

void file_sent(const struct ukevent* event) {
  const long cookie = (long)event->ptr;
  struct connection** link = &server.sending[cookie % cookie_buckets];
  while (*link != NULL && (*link)->cookie != cookie) link = &(*link)->next;
  struct connection* c = *link;
  if (c == NULL) return;
  *link = c->next;
  c->cookie = 0;
  --server.sends;
  const uint64_t bytes = event->ret_data[0] | (uint64_t)event->ret_data[1] << 32;
  const bool failed = (event->ret_flags & KEVENT_RET_BROKEN) != 0 || bytes != c->file_bytes;
  if (failed || c->closing) {
    close_connection(c);
  } else {
    answered(c);
    proceed(c);
  }
  start_queued_sends();
}

// ---- coming and going

static void begin(int fd) {
  struct connection* c = calloc(1, sizeof *c);
  if (c == NULL) {
    close(fd);
    return;
  }
  ++server.connections;
  c->fd = fd;
  c->watcher.told = on_socket;
  touch(c);
  const uint32_t events = KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND;
  const uint32_t flags = KEVENT_REQ_ET | KEVENT_REQ_ALWAYS_QUEUE;
  const struct kevent_id id = {.raw = {(uint32_t)fd}};
  if (watch(&c->watcher, KEVENT_SOCKET, id, events, flags) < 0) release(c);
}

void accept_connections(void) {
  server.accept_stalled = false;
  for (;;) {
    if (server.connections >= server.connections_max) break;
    const int fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      begin(fd);
    } else if (errno == EAGAIN) {
      return;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      break;
    }
  }
  // Edge-triggered: nobody will tell us again of those that wait already.
  server.accept_stalled = true;
}

void close_idle_connections(void) {
  while (server.idle.first != NULL && server.idle.first->waits_since_s + server.idle_s < server.now_s) {
    close_connection(server.idle.first);
  }
  if (server.accept_stalled) accept_connections();
}

void close_all_connections(void) {
  for (size_t i = 0; i < cookie_buckets; ++i) {
    for (struct connection *c = server.sending[i], *next; c != NULL; c = next) {
      next = c->next;
      release(c);
    }
  }
  struct connection_list* const lists[] = {&server.idle, &server.queued, &server.dead};
  for (size_t i = 0; i < sizeof lists / sizeof lists[0]; ++i) {
    while (lists[i]->first != NULL) release(lists[i]->first);
  }
}
