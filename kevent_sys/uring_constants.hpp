// Private to kevent_sys: what newer kernels know and liburing 2.3 does not name.
#pragma once

namespace keel::kevent_sys {

inline constexpr unsigned feature_no_iowait = 1u << 17;  // Linux 6.15: IORING_FEAT_NO_IOWAIT
inline constexpr unsigned enter_no_iowait = 1u << 7;     // Linux 6.15: IORING_ENTER_NO_IOWAIT
inline constexpr unsigned char op_read_multishot = 49;   // Linux 6.7: IORING_OP_READ_MULTISHOT
inline constexpr unsigned char op_futex_wait = 51;       // Linux 6.7: IORING_OP_FUTEX_WAIT
inline constexpr int futex_shared_word = 0x02;           // FUTEX2_SIZE_U32
inline constexpr int futex_private_word = 0x82;          // FUTEX2_SIZE_U32 | FUTEX2_PRIVATE
inline constexpr unsigned long long futex_any_bit = 0xffffffff;
inline constexpr long syscall_cachestat = 451;  // Linux 6.5

}  // namespace keel::kevent_sys
