#include <keel/base/error.hpp>

#include <cerrno>
#include <cstdlib>
#include <new>
#include <string>

namespace keel {
namespace {

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "keel"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::operation_canceled: return "Operation canceled: its task was asked to stop";
      case errc::timed_out: return "Timed out: the deadline given to with_timeout passed first";
      case errc::end_of_stream: return "End of stream: the peer stopped sending before all bytes had come";
      case errc::unexpected_end_of_file:
        return "Unexpected end of file: it is shorter than the range asked for";
      case errc::bad_address:
        return "Not an address: write 'host:port', '127.0.0.1:80' or '[::1]:80', with a port from 0 to 65535";
      case errc::not_supported: return "Not supported by this engine or kernel";
      case errc::engine_unavailable:
        return "The engine asked for is not available here: use KEEL_ENGINE=auto, or see the first line of "
               "the log";
      case errc::closed: return "The object is closed";
      case errc::limit_reached: return "A limit of this object is reached: drain it or raise the limit";
    }
    return "Unknown keel error " + std::to_string(value);
  }

  std::error_condition default_error_condition(int value) const noexcept override {
    switch (static_cast<errc>(value)) {
      case errc::operation_canceled: return std::errc::operation_canceled;
      case errc::timed_out: return std::errc::timed_out;
      case errc::not_supported: return std::errc::not_supported;
      default: return {value, *this};
    }
  }
};

}  // namespace

const std::error_category& error_category() noexcept {
  // Never destroyed: an error may be printed by a destructor that runs after main.
  alignas(category) static unsigned char storage[sizeof(category)];
  static const std::error_category& instance = *::new (storage) category();
  return instance;
}

std::error_code kernel_error(int error_number) noexcept {
  const int number = std::abs(error_number);
  if (number == ECANCELED) return errc::operation_canceled;
  return {number, std::system_category()};
}

void throw_error(std::error_code code, const char* doing) {
  if (doing == nullptr) throw std::system_error(code);
  throw std::system_error(code, doing);
}

}  // namespace keel
