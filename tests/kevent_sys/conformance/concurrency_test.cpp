#include <doctest/doctest.h>

#include <algorithm>
#include <csignal>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/build.hpp"
#include "support/fd_pairs.hpp"
#include "support/seed.hpp"

using namespace keel::test;

namespace {

constexpr unsigned events_total = sanitized ? 100'000 : 1'000'000;

// How often each event was seen, and how many in all.
class tally {
 public:
  explicit tally(unsigned count) : seen_(count) {}
  void note(const ukevent& event) {
    if (event.id.raw_u64 >= seen_.size() || event.ret_flags == 0) {
      ++strange;
      return;
    }
    if (++seen_[event.id.raw_u64] != 1) ++strange;
    ++total;
  }

  std::atomic<unsigned> total = 0;
  std::atomic<unsigned> strange = 0;  // unknown, or seen twice

 private:
  std::vector<std::atomic<std::uint8_t>> seen_;
};

// Adds ONESHOT user events 0, 1, ... that are ready at once; waits where the collectors are far behind.
bool produce(const event_queue& queue, const tally& collected) {
  std::vector<ukevent> batch;
  for (unsigned id = 0; id < events_total;) {
    batch.clear();
    for (int i = 0; i < 64 && id < events_total; ++i, ++id)
      batch.push_back(unotify_event(id, KEVENT_REQ_ONESHOT | KEVENT_REQ_READY));
    if (queue.ctl(KEVENT_CTL_ADD, batch) != 0) return false;
    while (id - collected.total > 8'192 && collected.strange == 0) std::this_thread::yield();
  }
  return true;
}

// Takes entries out of a ring that other threads fill. A ring whose index stands where it was read up to is
// empty, or exactly full: which of them tells the number of entries that the calls said to have written.
class ring_consumer {
 public:
  ring_consumer(const event_queue& queue, event_ring& ring) : queue_(queue), ring_(ring) {}

  void written(int count) { written_ += static_cast<unsigned>(std::max(count, 0)); }
  unsigned uidx() const { return uidx_; }
  // Returns false when a commit did not free what was read.
  bool consume(tally& into) {
    const std::lock_guard lock(mutex_);
    const bool full = written_ - read_ == ring_.size();
    const unsigned kidx = ring_.kidx();
    const unsigned uidx = uidx_;
    if (kidx == uidx && !full) return true;
    unsigned at = uidx, count = 0;
    do {
      into.note(ring_[at]);
      at = (at + 1) % ring_.size();
      ++count;
    } while (at != kidx);
    read_ += count;
    uidx_ = at;
    if (count < ring_.size()) return queue_.commit(at, ring_.over()) == int(count);
    const unsigned before_last = (at + ring_.size() - 1) % ring_.size();
    return queue_.commit(before_last, ring_.over()) == int(count - 1) && queue_.commit(at, ring_.over()) == 1;
  }

 private:
  const event_queue& queue_;
  event_ring& ring_;
  std::mutex mutex_;
  std::atomic<unsigned> written_ = 0;
  unsigned read_ = 0;
  std::atomic<unsigned> uidx_ = 0;
};

// One of some keys that many threads fight over.
ukevent random_event(const std::vector<fd_pair>& pairs, std::mt19937_64& random) {
  const std::uint32_t flags = std::uint32_t(random()) & 0x1f;
  const int fd = pairs[random() % pairs.size()].ours.get();
  switch (random() % 4) {
    case 0: return socket_event(fd, random() % 2 == 0 ? KEVENT_SOCKET_RECV : KEVENT_SOCKET_SEND, flags);
    case 1: return poll_event(fd, KEVENT_POLL_POLLIN, flags);
    case 2: return timer_event(1 + std::uint32_t(random() % 3), flags);
    default: return unotify_event(random() % 16, flags);
  }
}

// Removes all that random_event() may have registered.
void remove_all(const event_queue& queue, const std::vector<fd_pair>& pairs) {
  for (int round = 0; round < 20'000; ++round) {
    const int fd = pairs[std::size_t(round / 4) % pairs.size()].ours.get();
    ukevent event = unotify_event(std::uint64_t(round / 4 % 16));
    if (round % 4 == 1) event = socket_event(fd, 1);
    if (round % 4 == 2) event = poll_event(fd, 1);
    if (round % 4 == 3) event = timer_event(1 + std::uint32_t(round / 4 % 3));
    if (::kevent_ctl(queue.fd(), KEVENT_CTL_REMOVE, 1, &event) == -EINVAL) return;
  }
}

}  // namespace

TEST_CASE("case 88, K10: a buffer and a ring collect side by side: nothing is lost, nothing doubled") {
  event_ring ring(64);
  const event_queue queue(ring);
  tally seen(events_total);
  ring_consumer consumer(queue, ring);
  std::atomic<bool> wrong = false;
  auto unfinished = [&] { return seen.total < events_total && seen.strange == 0 && !wrong; };
  std::thread in_buffers([&] {
    std::vector<ukevent> buffer(48);
    while (unfinished()) {
      const int n = ::kevent_get_events(queue.fd(), 1, 48, milliseconds(2), buffer.data(), 0);
      if (n < 0) wrong = true;
      int in_ring = 0;
      for (int i = 0; i < n; ++i) {
        if ((buffer[std::size_t(i)].ret_flags & KEVENT_RET_COPY_FAILED) != 0)
          seen.note(buffer[std::size_t(i)]);
        else
          ++in_ring;
      }
      consumer.written(in_ring);
    }
  });
  std::thread in_ring([&] {
    while (unfinished()) {
      const int n = ::kevent_wait(queue.fd(), 64, consumer.uidx(), milliseconds(2), 0);
      if (n < 0) wrong = true;
      consumer.written(n);
      if (!consumer.consume(seen)) wrong = true;
    }
  });
  CHECK(produce(queue, seen));
  in_buffers.join();
  in_ring.join();
  CHECK_FALSE(wrong);
  CHECK(seen.strange == 0);
  CHECK(seen.total == events_total);
  CHECK(queue.ready_now() == 0);
}

TEST_CASE("case 88, K10: four threads wait on a ring of 64 and commit: nothing is lost, nothing doubled") {
  event_ring ring(64);
  const event_queue queue(ring);
  tally seen(events_total);
  ring_consumer consumer(queue, ring);
  std::atomic<bool> wrong = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      while (seen.total < events_total && seen.strange == 0 && !wrong) {
        const int n = ::kevent_wait(queue.fd(), 16, consumer.uidx(), milliseconds(2), 0);
        if (n < 0) wrong = true;
        consumer.written(n);
        if (!consumer.consume(seen)) wrong = true;
      }
    });
  }
  CHECK(produce(queue, seen));
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(wrong);
  CHECK(seen.strange == 0);
  CHECK(seen.total == events_total);
}

TEST_CASE("K10: four threads collect into buffers: nothing is lost, nothing doubled") {
  const event_queue queue;
  tally seen(events_total);
  std::vector<std::thread> threads;
  std::atomic<bool> wrong = false;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      std::vector<ukevent> buffer(32);
      while (seen.total < events_total && seen.strange == 0 && !wrong) {
        const int n = ::kevent_get_events(queue.fd(), 1, 32, milliseconds(2), buffer.data(), 0);
        if (n < 0) wrong = true;
        for (int i = 0; i < n; ++i) seen.note(buffer[std::size_t(i)]);
      }
    });
  }
  CHECK(produce(queue, seen));
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(wrong);
  CHECK(seen.strange == 0);
  CHECK(seen.total == events_total);
}

TEST_CASE("case 149, W34, W40: sixteen threads change random keys while sources fire") {
  const std::uint64_t seed = chosen_seed();
  CAPTURE(seed);
  constexpr int changers = 13;
  const int steps = sanitized ? 400 : 4'000;
  std::vector<fd_pair> pairs;
  for (int i = 0; i < 8; ++i) pairs.push_back(unix_pair());
  const event_queue queue;
  std::atomic<bool> over = false;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  std::vector<std::thread> others;
  for (int t = 0; t < changers; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed + std::uint64_t(t));
      for (int step = 0; step < steps; ++step) {
        ukevent event = random_event(pairs, random);
        const int answer = ::kevent_ctl(queue.fd(), unsigned(random() % 4), 1, &event);
        // EINVAL: the queue had no registration just then.
        if (answer < 0 && answer != -EINVAL) ++wrong;
      }
    });
  }
  for (int t = 0; t < 2; ++t) {
    others.emplace_back([&] {
      std::vector<ukevent> buffer(16);
      while (!over) {
        const int n = ::kevent_get_events(queue.fd(), 1, 16, milliseconds(5), buffer.data(), 0);
        if (n < 0) ++wrong;
        for (int i = 0; i < n; ++i)
          if ((buffer[std::size_t(i)].ret_flags & KEVENT_RET_DONE) == 0) ++wrong;
      }
    });
  }
  others.emplace_back([&] {
    std::mt19937_64 random(seed + 99);
    while (!over) {
      const fd_pair& pair = pairs[random() % 8];
      char byte = 'x';
      (void)!::write(pair.theirs.get(), &byte, 1);
      if (random() % 2 == 0) (void)!::read(pair.ours.get(), &byte, 1);
      std::this_thread::yield();
    }
  });
  for (std::thread& thread : threads) thread.join();
  over = true;
  for (std::thread& thread : others) thread.join();
  CHECK(wrong == 0);

  // Everything that may be registered goes; then the queue is as good as new.
  for (const fd_pair& pair : pairs) drain(pair.ours.get());
  remove_all(queue, pairs);
  std::vector<ukevent> one{unotify_event(1)};
  CHECK(queue.ctl(KEVENT_CTL_REMOVE, one) == -EINVAL);
  CHECK(queue.silent(10));
  REQUIRE(queue.add(socket_event(pairs[0].ours.get(), KEVENT_SOCKET_RECV)) == 0);
  pairs[0].put("x");
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 150, W52: a signal, then a pipe, then a user event are collected in that order") {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) {};
  REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
  {
    const fd_pair ends = pipe_pair(O_NONBLOCK);
    event_ring ring(8);
    const event_queue queue(ring);
    std::vector<ukevent> events{unotify_event(1, KEVENT_REQ_ET),
                                pipe_event(ends.ours.get(), KEVENT_SOCKET_RECV, KEVENT_REQ_ET),
                                event_of(KEVENT_SIGNAL, SIGUSR1, KEVENT_SIGNAL_DELIVERY, KEVENT_REQ_ET)};
    REQUIRE(queue.ctl(KEVENT_CTL_ADD, events) == 0);
    const std::vector<std::uint32_t> expected{KEVENT_SIGNAL, KEVENT_PIPE, KEVENT_UNOTIFY};
    for (int round = 0; round < 6; ++round) {
      REQUIRE(::kill(::getpid(), SIGUSR1) == 0);
      ends.put("x");
      REQUIRE(queue.ready(unotify_event(1)) == 1);
      std::vector<std::uint32_t> order;
      if (round % 2 == 0) {
        for (const ukevent& got : queue.get(3, 8, patience)) order.push_back(got.type);
      } else {
        const unsigned start = ring.kidx();
        for (int n = 0, got = 0; n < 3 && got >= 0; n += got) got = queue.wait(8, start, milliseconds(5'000));
        for (unsigned at = start; at != ring.kidx(); at = (at + 1) % 8) order.push_back(ring[at].type);
      }
      CHECK(order == expected);
      CHECK(queue.commit(ring.kidx(), ring.over()) == 3);
      drain(ends.ours.get());
    }
  }
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("case 151, W52: 64 sources that one thread fires in random order are collected in that order") {
  const std::uint64_t seed = chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  std::vector<fd_pair> sources;
  const event_queue queue;
  for (std::uint32_t i = 0; i < 64; ++i) {
    const bool user = i % 3 == 0, pipe = i % 3 == 1;
    sources.push_back(pipe ? pipe_pair(O_NONBLOCK) : unix_pair());
    const int fd = sources.back().ours.get();
    const ukevent event = user   ? unotify_event(i, KEVENT_REQ_ET)
                          : pipe ? pipe_event(fd, KEVENT_SOCKET_RECV, KEVENT_REQ_ET)
                                 : socket_event(fd, KEVENT_SOCKET_RECV, KEVENT_REQ_ET);
    REQUIRE(queue.add(with_cookie(event, i)) == 0);
  }
  for (int round = 0; round < 5; ++round) {
    std::vector<std::uint32_t> order(64);
    for (std::uint32_t i = 0; i < 64; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (const std::uint32_t i : order) {
      if (i % 3 == 0)
        REQUIRE(queue.ready(unotify_event(i)) == 1);
      else
        sources[i].put("x");
    }
    std::vector<std::uint32_t> collected;
    for (const ukevent& got : queue.get(64, 128, patience)) collected.push_back(got.user[0]);
    CHECK(collected == order);
    for (const fd_pair& source : sources) drain(source.ours.get());
  }
}
