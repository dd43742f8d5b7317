// Where the launcher gets device memory from: PyTorch's allocator, which plan.cpp asks, so that
// memory which that keeps for later is used before the device is called full.
#pragma once

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <utility>

namespace fused_warmup {
namespace cuda {

struct OutOfMemory : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Memory {
 public:
  virtual ~Memory() = default;
  // For work on `stream`: what is freed may be given out again at once, to later work of that
  // stream. Throws where there is none.
  virtual void* allocate(size_t size, void* stream) = 0;
  virtual void free(void* data) noexcept = 0;
};

// One piece of it.
class Block {
 public:
  Block() = default;
  Block(std::shared_ptr<Memory> memory, size_t size, void* stream)
      : memory_(std::move(memory)), data_(static_cast<char*>(memory_->allocate(size, stream))) {}
  ~Block() {
    if (data_ != nullptr) memory_->free(data_);
  }
  Block(Block&& other) noexcept { swap(other); }
  Block& operator=(Block&& other) noexcept {
    swap(other);
    return *this;
  }
  char* data() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void swap(Block& other) {
    std::swap(memory_, other.memory_);
    std::swap(data_, other.data_);
  }
  std::shared_ptr<Memory> memory_;
  char* data_ = nullptr;
};

}  // namespace cuda
}  // namespace fused_warmup
