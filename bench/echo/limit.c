// limit: a TCP echo server written by hand on raw io_uring, the 100 % that keel is measured against.
//
//   echo_limit PORT [BUFFERS BUFFER_SIZE]        (64 buffers of 16384 bytes)
//
// One thread, one ring: multishot accept into the ring's own file table, one multishot receive per
// connection into one small ring of provided buffers, and the answer sent straight from the buffer.
//
// A send posts no completion when it succeeds. How do we then know that its buffer is free again?
// With MSG_DONTWAIT | MSG_WAITALL a send is never parked: it is tried once, while io_uring_enter()
// takes the submission in, and it posts a completion if and only if not every byte went out. So once
// the submission has been consumed and the completion queue has been searched, silence means success:
// the buffer goes back to the ring one turn later.
//
// What could not go out at once moves to a heap block of its connection, its backlog, and is sent
// from there by an ordinary send that waits and reports. A slow reader thus never keeps one of the
// few buffers, and a connection has at most one send in flight, so its bytes stay in order.

#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "listener.h"

enum {
  ring_entries = 4096,
  completions_max = 2 * ring_entries,  // the size of the completion queue
  connections_max = 16384,
  backlog_max_bytes = 64 * 1024,  // then receive no more, until the peer has read its answers
  buffer_group = 0,
};

enum kind { kind_accept, kind_recv, kind_send, kind_send_block, kind_cancel, kind_close };

enum sending { sending_nothing, sending_buffer, sending_block };

struct block {
  struct block* next;
  uint32_t bytes;
  char data[];
};

struct connection {
  struct block *first, *last;  // the backlog; `first` is in flight when sending == sending_block
  uint32_t backlog_bytes;
  uint32_t buffer_bytes;  // sending_buffer: what is in flight
  uint16_t buffer_id;
  uint8_t sending;  // enum sending
  bool receiving;   // a multishot receive is armed,
  bool cancelling;  // and has been asked to stop
  bool ended;       // the peer has finished: close when the backlog is sent
};

// The connections whose buffers went to the kernel in one turn.
struct turn {
  uint32_t* slots;
  unsigned n;
};

static struct io_uring ring;
static struct connection connections[connections_max];
static struct io_uring_buf_ring* buffer_ring;
static char* buffers;
static unsigned buffers_n = 64, buffer_size = 16 * 1024;
static unsigned returned_n;  // buffers put back that the kernel has not been shown yet
static struct turn this_turn, last_turn;
static int listener;
static bool accept_paused;
static bool held_up;  // a connection waits for a send that succeeds in silence: do not wait for completions

static void die(const char* what, int error) {
  fprintf(stderr, "%s: %s (%d)\n", what, strerror(error), error);
  exit(1);
}

static uint64_t tag(enum kind kind, uint32_t slot) {
  return (uint64_t)slot << 8 | kind;
}

static enum kind kind_of(const struct io_uring_cqe* cqe) {
  return (enum kind)(cqe->user_data & 0xff);
}

static struct io_uring_sqe* next_sqe(void) {
  struct io_uring_sqe* sqe;
  while ((sqe = io_uring_get_sqe(&ring)) == NULL) io_uring_submit(&ring);
  return sqe;
}

static char* buffer_at(unsigned id) {
  return buffers + (size_t)id * buffer_size;
}

static void return_buffer(unsigned id) {
  io_uring_buf_ring_add(buffer_ring, buffer_at(id), buffer_size, (unsigned short)id,
                        io_uring_buf_ring_mask(buffers_n), (int)returned_n++);
}

static void arm_accept(void) {
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_multishot_accept_direct(sqe, listener, NULL, NULL, 0);
  io_uring_sqe_set_data64(sqe, tag(kind_accept, 0));
}

static void arm_recv(uint32_t slot) {
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_recv_multishot(sqe, (int)slot, NULL, 0, 0);
  io_uring_sqe_set_data64(sqe, tag(kind_recv, slot));
  sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
  sqe->buf_group = buffer_group;
  // Receive in task work, which the kernel hands out 20 at a time, and not while it takes submissions in:
  // a thousand connections armed at once would fight for the buffers, fail with ENOBUFS and be armed again.
  sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
  connections[slot].receiving = true;
}

static void cancel_recv(uint32_t slot) {
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_cancel64(sqe, tag(kind_recv, slot), 0);
  io_uring_sqe_set_data64(sqe, tag(kind_cancel, slot));
  sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
  connections[slot].cancelling = true;
}

static void send_buffer(uint32_t slot, unsigned id, uint32_t bytes) {
  struct connection* c = &connections[slot];
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_send(sqe, (int)slot, buffer_at(id), bytes, MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
  io_uring_sqe_set_data64(sqe, tag(kind_send, slot));
  sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
  c->sending = sending_buffer;
  c->buffer_id = (uint16_t)id;
  c->buffer_bytes = bytes;
  this_turn.slots[this_turn.n++] = slot;
}

static void send_first_block(uint32_t slot) {
  struct connection* c = &connections[slot];
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_send(sqe, (int)slot, c->first->data, c->first->bytes, MSG_WAITALL | MSG_NOSIGNAL);
  io_uring_sqe_set_data64(sqe, tag(kind_send_block, slot));
  sqe->flags |= IOSQE_FIXED_FILE;
  c->sending = sending_block;
}

static void close_slot(uint32_t slot) {
  struct io_uring_sqe* sqe = next_sqe();
  io_uring_prep_close_direct(sqe, slot);
  io_uring_sqe_set_data64(sqe, tag(kind_close, slot));
  connections[slot] = (struct connection){0};
}

static void add_block(struct connection* c, const char* data, uint32_t bytes, bool in_front) {
  struct block* block = malloc(sizeof *block + bytes);
  if (block == NULL) die("cannot keep unsent bytes", ENOMEM);
  memcpy(block->data, data, bytes);
  block->bytes = bytes;
  block->next = in_front ? c->first : NULL;
  if (c->first == NULL)
    c->first = c->last = block;
  else if (in_front)
    c->first = block;
  else
    c->last = c->last->next = block;
  c->backlog_bytes += bytes;
}

static void drop_first_block(struct connection* c) {
  struct block* block = c->first;
  c->first = block->next;
  c->backlog_bytes -= block->bytes;
  free(block);
}

// The peer cannot be answered any more. REQUIRES: no block in flight.
static void give_up(struct connection* c) {
  while (c->first != NULL) drop_first_block(c);
  c->ended = true;
}

// Starts whatever the connection needs next. Called after each change of its state.
static void advance(uint32_t slot) {
  struct connection* c = &connections[slot];
  const bool wants_more = !c->ended && c->backlog_bytes <= backlog_max_bytes;
  if (wants_more && !c->receiving) arm_recv(slot);
  if (!wants_more && c->receiving && !c->cancelling) cancel_recv(slot);
  if (c->sending == sending_buffer) held_up = true;
  if (c->sending != sending_nothing) return;
  if (c->first != NULL)
    send_first_block(slot);
  else if (c->ended && !c->receiving)
    close_slot(slot);
}

static void on_accept(const struct io_uring_cqe* cqe) {
  if (cqe->res >= 0) {
    connections[cqe->res] = (struct connection){0};
    advance((uint32_t)cqe->res);
  }
  if (cqe->flags & IORING_CQE_F_MORE) return;
  if (cqe->res == -EINVAL || cqe->res == -EBADF) die("cannot accept", -cqe->res);
  accept_paused = cqe->res == -ENFILE;  // the table is full: until a connection closes
  if (!accept_paused) arm_accept();
}

static void on_recv(uint32_t slot, const struct io_uring_cqe* cqe) {
  struct connection* c = &connections[slot];
  if (!(cqe->flags & IORING_CQE_F_MORE)) c->receiving = c->cancelling = false;

  if (cqe->res > 0) {
    const unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    const uint32_t bytes = (uint32_t)cqe->res;
    if (c->sending == sending_nothing && !c->ended) {
      send_buffer(slot, id, bytes);
      if (c->receiving) return;  // the way nearly all messages go
    } else {
      if (!c->ended) add_block(c, buffer_at(id), bytes, false);
      return_buffer(id);
    }
  } else if (cqe->res != -ENOBUFS && cqe->res != -ECANCELED) {
    c->ended = true;  // in order or by an error; if by an error, the next send will find out
  }
  advance(slot);
}

// A send from a buffer that did not deliver everything.
static void on_send_refused(uint32_t slot, int answer) {
  struct connection* c = &connections[slot];
  const uint32_t sent = answer > 0 ? (uint32_t)answer : 0;
  if (answer < 0 && answer != -EAGAIN)
    give_up(c);
  else
    add_block(c, buffer_at(c->buffer_id) + sent, c->buffer_bytes - sent, true);
  return_buffer(c->buffer_id);
  c->sending = sending_nothing;
  advance(slot);
}

static void on_block_sent(uint32_t slot, int answer) {
  struct connection* c = &connections[slot];
  c->sending = sending_nothing;
  if (answer == (int)c->first->bytes)
    drop_first_block(c);
  else
    give_up(c);
  advance(slot);
}

static void on_completion(const struct io_uring_cqe* cqe) {
  const uint32_t slot = (uint32_t)(cqe->user_data >> 8);
  switch (kind_of(cqe)) {
    case kind_accept: on_accept(cqe); break;
    case kind_recv: on_recv(slot, cqe); break;
    case kind_send: break;  // has been seen by settle_last_turn
    case kind_send_block: on_block_sent(slot, cqe->res); break;
    case kind_cancel: break;  // it was too late: the receive has ended by itself
    case kind_close:
      if (accept_paused) arm_accept();
      accept_paused = false;
      break;
  }
}

// Finds out how the sends of the last turn went: those without bad news are done.
static void settle_last_turn(struct io_uring_cqe** cqes, unsigned n) {
  for (unsigned i = 0; i < n; i++)
    if (kind_of(cqes[i]) == kind_send) on_send_refused((uint32_t)(cqes[i]->user_data >> 8), cqes[i]->res);
  for (unsigned i = 0; i < last_turn.n; i++) {
    struct connection* c = &connections[last_turn.slots[i]];
    if (c->sending != sending_buffer) continue;  // was refused
    return_buffer(c->buffer_id);
    c->sending = sending_nothing;
    if (c->first != NULL || !c->receiving) advance(last_turn.slots[i]);
  }
  last_turn.n = 0;
}

// Submits everything and waits for a completion, unless a connection is held up.
static void enter_kernel(void) {
  do {
    const int answer = io_uring_submit_and_wait(&ring, held_up ? 0 : 1);
    if (answer < 0 && answer != -EINTR && answer != -EAGAIN) die("io_uring_enter", -answer);
  } while (io_uring_sq_ready(&ring) != 0);
  held_up = false;
}

static void take_turn(void) {
  static struct io_uring_cqe* cqes[completions_max];
  enter_kernel();
  const struct turn settled = last_turn;
  last_turn = this_turn;
  this_turn = settled;

  const unsigned n = io_uring_peek_batch_cqe(&ring, cqes, completions_max);
  settle_last_turn(cqes, n);
  for (unsigned i = 0; i < n; i++) on_completion(cqes[i]);
  io_uring_cq_advance(&ring, n);
  io_uring_buf_ring_advance(buffer_ring, (int)returned_n);
  returned_n = 0;
}

static void set_up(void) {
  struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                            IORING_SETUP_SUBMIT_ALL};
  int error = io_uring_queue_init_params(ring_entries, &ring, &params);
  if (error < 0) die("cannot make an io_uring", -error);
  error = io_uring_register_ring_fd(&ring);
  if (error < 0) die("cannot register the ring", -error);
  const unsigned fds = raise_fd_limit();
  error = io_uring_register_files_sparse(&ring, fds < connections_max ? fds : connections_max);
  if (error < 0) die("cannot register a file table", -error);

  void* memory;
  if (posix_memalign(&memory, 4096, buffers_n * sizeof(struct io_uring_buf)) != 0) die("buffer ring", ENOMEM);
  buffer_ring = memory;
  io_uring_buf_ring_init(buffer_ring);
  struct io_uring_buf_reg registration = {
      .ring_addr = (uint64_t)(uintptr_t)buffer_ring, .ring_entries = buffers_n, .bgid = buffer_group};
  error = io_uring_register_buf_ring(&ring, &registration, 0);
  if (error < 0) die("cannot register a buffer ring", -error);
  if (posix_memalign(&memory, 4096, (size_t)buffers_n * buffer_size) != 0) die("buffers", ENOMEM);
  buffers = memory;
  for (unsigned id = 0; id < buffers_n; id++) return_buffer(id);
  io_uring_buf_ring_advance(buffer_ring, (int)returned_n);
  returned_n = 0;

  // A send holds a buffer, so no more of them than buffers can be on their way.
  this_turn.slots = calloc(buffers_n, sizeof(uint32_t));
  last_turn.slots = calloc(buffers_n, sizeof(uint32_t));
  if (this_turn.slots == NULL || last_turn.slots == NULL) die("turns", ENOMEM);
}

int main(int argc, char** argv) {
  if (argc != 2 && argc != 4) {
    fprintf(stderr, "usage: %s PORT [BUFFERS BUFFER_SIZE]\n", argv[0]);
    return 2;
  }
  if (argc == 4) {
    buffers_n = (unsigned)atoi(argv[2]);
    buffer_size = (unsigned)atoi(argv[3]);
    if (buffers_n == 0 || buffers_n > 32768 || (buffers_n & (buffers_n - 1)) != 0 || buffer_size == 0)
      die("BUFFERS must be a power of two up to 32768, BUFFER_SIZE positive", EINVAL);
  }
  set_up();
  listener = listen_on(atoi(argv[1]), 0);
  arm_accept();
  for (;;) take_turn();
}
