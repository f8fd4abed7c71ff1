#define _GNU_SOURCE
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const char sources_help[] =
    "SOURCE, with flags after an @, as in timer:0.1@oneshot,ready\n"
    "  timer:SECONDS                         a period\n"
    "  clock:realtime|monotonic|boottime:SECONDS[:PERIOD]   a POSIX timer\n"
    "  signal:USR1[:nomask]                  without nomask, the signal's own action is to do nothing\n"
    "  pipe:stdin|stdout|DESCRIPTOR|PATH[:recv|send]\n"
    "  socket:accept|recv|send:HOST:PORT     listens (port 0: any), or connects\n"
    "  poll:stdin|stdout|DESCRIPTOR|PATH[:in+pri+out+err+hup+rdhup]\n"
    "  dir:PATH[:create+remove]              entries of a directory\n"
    "  proc:PID  run:COMMAND                 a process, or a shell command of our own, ends\n"
    "  user:NUMBER                           fires by @ready or --ready\n"
    "  file:PATH                             a completion: reads the first 4,096 bytes\n"
    "  raw:TYPE:ID0:ID1:EVENT                any numbers\n"
    "flags: oneshot wakeup_all et last_check always_queue ready, or a number\n";

struct name {
  const char* text;
  uint32_t bit;
};

static const struct name flag_names[] = {{"oneshot", KEVENT_REQ_ONESHOT},
                                         {"wakeup_all", KEVENT_REQ_WAKEUP_ALL},
                                         {"et", KEVENT_REQ_ET},
                                         {"last_check", KEVENT_REQ_LAST_CHECK},
                                         {"always_queue", KEVENT_REQ_ALWAYS_QUEUE},
                                         {"ready", KEVENT_REQ_READY},
                                         {NULL, 0}};
static const struct name socket_names[] = {
    {"recv", KEVENT_SOCKET_RECV}, {"accept", KEVENT_SOCKET_ACCEPT}, {"send", KEVENT_SOCKET_SEND}, {NULL, 0}};
static const struct name poll_names[] = {{"in", KEVENT_POLL_POLLIN},
                                         {"pri", KEVENT_POLL_POLLPRI},
                                         {"out", KEVENT_POLL_POLLOUT},
                                         {"err", KEVENT_POLL_POLLERR},
                                         {"hup", KEVENT_POLL_POLLHUP},
                                         {"rdhup", KEVENT_POLL_POLLRDHUP},
                                         {NULL, 0}};
static const struct name inode_names[] = {
    {"create", KEVENT_INODE_CREATE}, {"remove", KEVENT_INODE_REMOVE}, {NULL, 0}};

void refuse(const struct source* source, const char* why) {
  fprintf(stderr, "kev_probe: %s: %s\n", source->text, why);
  exit(2);
}

static uint64_t number(const struct source* source, const char* text) {
  char* end;
  errno = 0;
  const uint64_t value = strtoull(text == NULL ? "" : text, &end, 0);
  if (text == NULL || *text == '\0' || *end != '\0' || errno != 0)
    refuse(source, "a number is missing or wrong");
  return value;
}

static struct timespec seconds(const struct source* source, const char* text) {
  char* end;
  const double value = strtod(text == NULL ? "" : text, &end);
  const bool right = text != NULL && end != text && *end == '\0' && value >= 0 && value < 4e9;
  if (!right) refuse(source, "seconds are missing or wrong");
  const double whole = (double)(long)value;
  return (struct timespec){(time_t)whole, (long)((value - whole) * 1e9 + 0.5)};
}

// Adds up names or numbers that are separated by any of `separators`.
static uint32_t mask(const struct source* source, const struct name* names, char* text,
                     const char* separators) {
  uint32_t value = 0;
  for (char *rest = text, *word; (word = strsep(&rest, separators)) != NULL;) {
    const struct name* known = names;
    while (known->text != NULL && strcmp(known->text, word) != 0) ++known;
    value |= known->text != NULL ? known->bit : (uint32_t)number(source, word);
  }
  return value;
}

// "stdin", "3", or a path: a FIFO, a directory, a device, a file.
static int descriptor(const struct source* source, const char* text, int flags) {
  if (text == NULL) refuse(source, "a descriptor or a path is missing");
  if (strcmp(text, "stdin") == 0) return STDIN_FILENO;
  if (strcmp(text, "stdout") == 0) return STDOUT_FILENO;
  char* end;
  const long value = strtol(text, &end, 10);
  if (end != text && *end == '\0') return (int)value;
  const int fd = open(text, flags | O_CLOEXEC);
  if (fd < 0) refuse(source, strerror(errno));
  return fd;
}

static int socket_for(struct source* source, const char* host, const char* port) {
  const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = source->listens ? AI_PASSIVE : 0};
  struct addrinfo* found;
  if (host == NULL || port == NULL) refuse(source, "HOST:PORT is missing");
  const int error = getaddrinfo(host, port, &hints, &found);
  if (error != 0) refuse(source, gai_strerror(error));
  const int on = 1;
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool made = source->listens
                        ? setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                              bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 16) == 0
                        : connect(fd, found->ai_addr, found->ai_addrlen) == 0;
  if (!made) refuse(source, strerror(errno));
  freeaddrinfo(found);

  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  char service[16];
  if (source->listens && getsockname(fd, (struct sockaddr*)&address, &size) == 0 &&
      getnameinfo((struct sockaddr*)&address, size, NULL, 0, service, sizeof service, NI_NUMERICSERV) == 0) {
    printf("%s: listens on port %s\n", source->text, service);
  }
  return fd;
}

static void ignore(int signal_number) {
  (void)signal_number;
}

static uint64_t signal_id(const struct source* source, const char* name, const char* how) {
  unsigned found = 0;
  for (unsigned i = 1; i < NSIG && name != NULL; ++i) {
    const char* known = sigabbrev_np((int)i);
    if (known != NULL && strcmp(known, name) == 0) found = i;
  }
  if (found == 0) refuse(source, "no such signal");
  if (how != NULL && strcmp(how, "nomask") == 0) return found | KEVENT_SIGNAL_NOMASK;
  signal((int)found, ignore);
  return (uint64_t)found;
}

static pid_t run(const struct source* source, const char* command) {
  if (command == NULL) refuse(source, "a command is missing");
  fflush(NULL);
  const pid_t child = fork();
  if (child < 0) refuse(source, strerror(errno));
  if (child > 0) return child;
  execl("/bin/sh", "sh", "-c", command, (char*)NULL);
  _exit(127);
}

static int clock_of(const struct source* source, const char* name) {
  if (name != NULL && strcmp(name, "realtime") == 0) return CLOCK_REALTIME;
  if (name != NULL && strcmp(name, "monotonic") == 0) return CLOCK_MONOTONIC;
  if (name != NULL && strcmp(name, "boottime") == 0) return CLOCK_BOOTTIME;
  refuse(source, "no such clock");
}

static void set(struct source* source, uint32_t type, uint32_t event) {
  source->asked.type = type;
  source->asked.event = event;
  if (source->fd >= 0) source->asked.id.raw[0] = (uint32_t)source->fd;
}

static void parse_streams(struct source* source, const char* type, char* rest) {
  if (strcmp(type, "pipe") == 0) {
    char *end = strsep(&rest, ":"), none[] = "recv";
    source->fd = descriptor(source, end, O_RDWR | O_NONBLOCK);
    set(source, KEVENT_PIPE, mask(source, socket_names, rest == NULL ? none : rest, "+"));
  } else if (strcmp(type, "socket") == 0) {
    char* events = strsep(&rest, ":");
    const uint32_t event = mask(source, socket_names, events, "+");
    char* port = rest == NULL ? NULL : strrchr(rest, ':');
    if (port != NULL) *port++ = '\0';
    source->listens = (event & KEVENT_SOCKET_ACCEPT) != 0;
    source->fd = socket_for(source, rest, port);
    set(source, KEVENT_SOCKET, event);
  } else if (strcmp(type, "poll") == 0) {
    char *what = strsep(&rest, ":"), none[] = "in";
    source->fd = descriptor(source, what, O_RDONLY | O_NONBLOCK);
    set(source, KEVENT_POLL, mask(source, poll_names, rest == NULL ? none : rest, "+"));
  } else if (strcmp(type, "dir") == 0) {
    char *path = strsep(&rest, ":"), all[] = "create+remove";
    source->fd = descriptor(source, path, O_RDONLY | O_DIRECTORY);
    set(source, KEVENT_INODE, mask(source, inode_names, rest == NULL ? all : rest, "+"));
  } else if (strcmp(type, "file") == 0) {
    source->how = how_read_file;
    source->fd = descriptor(source, rest, O_RDONLY);
  } else {
    refuse(source, "no such type (--help)");
  }
}

static void parse(struct source* source, char* type, char* rest) {
  if (strcmp(type, "timer") == 0) {
    const struct timespec period = seconds(source, rest);
    set(source, KEVENT_TIMER, KEVENT_TIMER_FIRED);
    source->asked.id.raw[0] = (uint32_t)period.tv_sec;
    source->asked.id.raw[1] = (uint32_t)period.tv_nsec;
  } else if (strcmp(type, "clock") == 0) {
    source->how = how_clock;
    source->clock_id = clock_of(source, strsep(&rest, ":"));
    source->first = seconds(source, strsep(&rest, ":"));
    if (rest != NULL) source->period = seconds(source, rest);
  } else if (strcmp(type, "signal") == 0) {
    const char* name = strsep(&rest, ":");
    set(source, KEVENT_SIGNAL, KEVENT_SIGNAL_DELIVERY);
    source->asked.id.raw_u64 = signal_id(source, name, rest);
  } else if (strcmp(type, "proc") == 0 || strcmp(type, "run") == 0) {
    set(source, KEVENT_PROC, KEVENT_PROC_EXIT);
    const bool ours = strcmp(type, "run") == 0;
    source->asked.id.raw[0] = ours ? (uint32_t)run(source, rest) : (uint32_t)number(source, rest);
  } else if (strcmp(type, "user") == 0) {
    set(source, KEVENT_UNOTIFY, 1);
    source->asked.id.raw_u64 = number(source, rest);
  } else if (strcmp(type, "raw") == 0) {
    source->asked.type = (uint32_t)number(source, strsep(&rest, ":"));
    source->asked.id.raw[0] = (uint32_t)number(source, strsep(&rest, ":"));
    source->asked.id.raw[1] = (uint32_t)number(source, strsep(&rest, ":"));
    source->asked.event = (uint32_t)number(source, strsep(&rest, ":"));
  } else {
    parse_streams(source, type, rest);
  }
}

void parse_source(struct source* source, char* text) {
  *source = (struct source){.text = text, .fd = -1};
  char* copy = strdup(text);
  if (copy == NULL) refuse(source, strerror(errno));
  // A path or a command may have an @ of its own: flags follow the last one, and name no folder.
  char* flags = strrchr(copy, '@');
  if (flags != NULL && strpbrk(flags, "/ :") == NULL) {
    *flags++ = '\0';
    source->asked.req_flags = mask(source, flag_names, flags, ",");
  }
  char* rest = copy;
  char* type = strsep(&rest, ":");
  parse(source, type, rest);
  source->asked.ptr = source;
  free(copy);
}
