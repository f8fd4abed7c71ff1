#include <keel/kevent_sys/sim_faults.hpp>

#include <cerrno>

namespace keel::kevent_sys {
namespace {

constexpr int accept_errors[] = {ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM, EPROTO};
constexpr int connect_errors[] = {ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL};
constexpr int receive_errors[] = {ECONNRESET, ETIMEDOUT, ENOMEM};
constexpr int send_errors[] = {ECONNRESET, EPIPE, ETIMEDOUT, ENOBUFS, ENOMEM};
constexpr int sendfile_errors[] = {ECONNRESET, EPIPE, EIO, ENOMEM};
constexpr int drain_errors[] = {EIO, ENOMEM};
constexpr int open_errors[] = {EACCES, EMFILE, ENFILE, ENOMEM, ENOSPC, EIO};
constexpr int read_errors[] = {EIO, ENOMEM};
constexpr int write_errors[] = {EIO, ENOSPC, EDQUOT, ENOMEM};
constexpr int close_errors[] = {EIO, ENOSPC, EDQUOT};
constexpr int poll_errors[] = {ENOMEM};

}  // namespace

std::uint64_t sim_random::next() noexcept {
  state_ += 0x9e3779b97f4a7c15;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::uint64_t sim_random::below(std::uint64_t bound) noexcept {
  KEEL_ASSERT(bound > 0);
  return next() % bound;
}

bool sim_random::hit(std::uint32_t per_mille) noexcept {
  return per_mille != 0 && below(1000) < per_mille;
}

std::span<const int> sim_errors(opcode code) noexcept {
  switch (code) {
    case opcode::accept: return accept_errors;
    case opcode::connect: return connect_errors;
    case opcode::recv:
    case opcode::receive: return receive_errors;
    case opcode::send: return send_errors;
    case opcode::sendfile: return sendfile_errors;
    case opcode::drain: return drain_errors;
    case opcode::open: return open_errors;
    case opcode::read: return read_errors;
    case opcode::write: return write_errors;
    case opcode::close: return close_errors;
    case opcode::poll: return poll_errors;
    case opcode::nop:
    case opcode::wake:
    case opcode::timer:
    case opcode::call:
    case opcode::futex: break;
  }
  return {};
}

bool sim_error_is_fatal(int error) noexcept {
  return error == ECONNRESET || error == EPIPE || error == ETIMEDOUT;
}

}  // namespace keel::kevent_sys
