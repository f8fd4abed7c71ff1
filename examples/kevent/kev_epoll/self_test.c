// Does the shim behave like epoll? One script, run with both; the transcripts have to be equal.
//
//   kev_epoll [-v]     prints how many lines were compared, or the first that differ; -v prints all

#include "kev_epoll.h"
#include "script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t line_length(const char* text) {
  return strcspn(text, "\n");
}

int main(int argc, char** argv) {
  const struct poller real = {"epoll", epoll_create1, close, epoll_ctl, epoll_wait};
  const struct poller shim = {"kev_epoll", kev_epoll_create, kev_epoll_close, kev_epoll_ctl, kev_epoll_wait};
  const struct transcript expected = run_script(&real);
  const struct transcript actual = run_script(&shim);
  if (argc > 1 && strcmp(argv[1], "-v") == 0) fputs(expected.text, stdout);

  int lines = 0;
  const char *e = expected.text, *a = actual.text;
  for (; *e != '\0' || *a != '\0'; ++lines) {
    const size_t e_length = line_length(e), a_length = line_length(a);
    if (e_length != a_length || memcmp(e, a, e_length) != 0) {
      printf("line %d: epoll says \"%.*s\", kev_epoll \"%.*s\"\n", lines + 1, (int)e_length, e, (int)a_length,
             a);
      return 1;
    }
    e += e_length + (e[e_length] == '\n');
    a += a_length + (a[a_length] == '\n');
  }
  printf("%d lines alike\n", lines);
  free(expected.text);
  free(actual.text);
  return 0;
}
