// Timers and a ring of events in this program's own memory, read by one or several threads.
//
//   kev_ring [-n ENTRIES] [-e EVENTS] [-k CONSUMERS] [PERIOD_MS ...]     (8, 12, 1, periods 20 and 50)
//
// Each line is one event: the ring's index where it stood, how often the ring had wrapped then, the consumer
// who took it, the timer, and ret_data[0]: when it expired, in milliseconds. It ends after EVENTS lines.
//
// Consumers share one index. Who moves it on by one, with compare-and-swap, has the entry before it; entries
// are given free in the order in which they were taken, when they have been copied.

#define _GNU_SOURCE
#include <keel/kevent_sys/kevent.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int queue;
static struct kevent_ring* ring;
static unsigned entries = 8, consumers = 1;
static unsigned long events = 12;

// They run on for ever; modulo `entries` they are indices.
static atomic_ulong produced;  // moved into the ring
static atomic_ulong taken;     // by a consumer
static atomic_ulong copied;    // out of it
static unsigned long committed;
static pthread_mutex_t commit_lock = PTHREAD_MUTEX_INITIALIZER;

static int check(int result, const char* call) {
  if (result >= 0) return result;
  fprintf(stderr, "%s: %s\n", call, strerror(-result));
  exit(1);
}

// Frees what was copied, one thread after the other: a late commit with an older index would look like one
// that has gone once around. A commit up to where the last one ended frees nothing: a full ring takes two.
static void commit(void) {
  pthread_mutex_lock(&commit_lock);
  const unsigned long end = atomic_load(&copied);
  if (end - committed == entries) {
    check(kevent_commit(queue, (unsigned)((end - 1) % entries), ring->ring_over), "kevent_commit");
  }
  check(kevent_commit(queue, (unsigned)(end % entries), ring->ring_over), "kevent_commit");
  committed = end;
  pthread_mutex_unlock(&commit_lock);
}

static unsigned consumer_index(void) {
  pthread_mutex_lock(&commit_lock);
  const unsigned index = (unsigned)(committed % entries);
  pthread_mutex_unlock(&commit_lock);
  return index;
}

static void* consume(void* number) {
  const struct timespec for_ever = {.tv_sec = -1};
  for (;;) {
    unsigned long mine = atomic_load(&taken);
    if (mine >= events) break;
    if (mine >= atomic_load(&produced)) {
      commit();
      const int moved = check(kevent_wait(queue, entries, consumer_index(), for_ever, 0), "kevent_wait");
      atomic_fetch_add(&produced, (unsigned long)moved);
      continue;
    }
    if (!atomic_compare_exchange_weak(&taken, &mine, mine + 1)) continue;
    const struct ukevent event = ring->event[mine % entries];
    while (atomic_load(&copied) != mine) sched_yield();
    atomic_store(&copied, mine + 1);
    printf("index %lu over %lu consumer %ld: timer %u ms, ret_data %u\n", mine % entries, mine / entries,
           (long)number, event.id.raw[0] * 1000 + event.id.raw[1] / 1000000, event.ret_data[0]);
  }
  // The next sleeper ends too, and wakes the one after it.
  check(kevent_ctl(queue, KEVENT_CTL_READY, 0, NULL), "kevent_ctl");
  return NULL;
}

static void add_timer(unsigned long period_ms) {
  struct ukevent timer = {.type = KEVENT_TIMER, .event = KEVENT_TIMER_FIRED, .req_flags = KEVENT_REQ_ET};
  timer.id.raw[0] = (uint32_t)(period_ms / 1000);
  timer.id.raw[1] = (uint32_t)(period_ms % 1000 * 1000000);
  if (check(kevent_ctl(queue, KEVENT_CTL_ADD, 1, &timer), "kevent_ctl") == 0) return;
  check((int)timer.ret_data[1], "add a timer");
}

int main(int argc, char** argv) {
  for (int option; (option = getopt(argc, argv, "n:e:k:")) != -1;) {
    if (option == '?') return 2;
    const unsigned long value = strtoul(optarg, NULL, 10);
    if (option == 'n') entries = (unsigned)value;
    if (option == 'e') events = value;
    if (option == 'k') consumers = (unsigned)value;
  }
  ring = calloc(1, sizeof *ring + entries * sizeof ring->event[0]);
  pthread_t* threads = calloc(consumers, sizeof *threads);
  if (ring == NULL || threads == NULL) return 1;
  queue = check(kevent_init(ring, entries, 0), "kevent_init");

  if (optind == argc) {
    add_timer(20);
    add_timer(50);
  }
  for (int i = optind; i < argc; ++i) add_timer(strtoul(argv[i], NULL, 10));
  for (unsigned i = 1; i < consumers; ++i) {
    if (pthread_create(&threads[i], NULL, consume, (void*)(long)i) != 0) return 1;
  }
  consume(NULL);
  for (unsigned i = 1; i < consumers; ++i) pthread_join(threads[i], NULL);

  check(kevent_close(queue), "kevent_close");
  free(threads);
  free(ring);
  return 0;
}
