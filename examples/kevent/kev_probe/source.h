// What the command line asks to be watched.
#ifndef KEV_PROBE_SOURCE_H
#define KEV_PROBE_SOURCE_H

#include <keel/kevent_sys/kevent.h>

#include <stdbool.h>

enum how { how_add, how_read_file, how_clock };

struct source {
  char* text;  // as it was given
  struct ukevent asked;
  enum how how;
  int fd;        // that it opened, or was given; -1: none
  bool listens;  // to be drained by accept, not by read
  // how_clock
  int clock_id;
  struct timespec first, period;
  // how_read_file
  char bytes[4096];
};

// Takes `text` apart and opens what it names; ends the program with a message when it cannot.
void parse_source(struct source* source, char* text);
// Ends the program: says what is wrong with which source.
_Noreturn void refuse(const struct source* source, const char* why);
// The sources, flags and event names, for --help.
extern const char sources_help[];

#endif
