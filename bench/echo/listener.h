// The listening socket that the C echo servers share.
#ifndef BENCH_ECHO_LISTENER_H
#define BENCH_ECHO_LISTENER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

// Listens on 127.0.0.1:port or ends the program; `flags` are for socket(). TCP_NODELAY is inherited by every
// accepted socket.
static int listen_on(int port, int flags) {
  const int on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
      bind(fd, (struct sockaddr*)&address, sizeof address) != 0 || listen(fd, 4096) != 0) {
    perror("cannot listen");
    exit(1);
  }
  printf("listening on 127.0.0.1:%d\n", port);
  fflush(stdout);
  return fd;
}

// Raises the limit of descriptors as far as it goes and returns it.
static unsigned raise_fd_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_max > 1u << 20 ? 1u << 20 : (unsigned)limit.rlim_max;
}

#endif
