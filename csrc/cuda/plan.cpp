#include "cuda/plan.h"

namespace fused_warmup {
namespace {

class TorchMemory : public cuda::Memory {
 public:
  explicit TorchMemory(int device) : device_(device) {}

  void* allocate(size_t size, void* stream) override {
    const py::object found =
        py::module_::import("torch.cuda")
            .attr("caching_allocator_alloc")(size, device_, reinterpret_cast<intptr_t>(stream));
    return reinterpret_cast<void*>(found.cast<uintptr_t>());
  }

  void free(void* data) noexcept override {
    try {
      py::module_::import("torch.cuda")
          .attr("caching_allocator_delete")(reinterpret_cast<uintptr_t>(data));
    } catch (const std::exception&) {  // at exit torch may be gone, and the memory with it
    }
  }

 private:
  int device_;
};

// Keeps Python objects from whoever knows nothing of Python.
std::shared_ptr<void> hold(std::vector<py::object> objects) {
  return {new std::vector<py::object>(std::move(objects)), [](std::vector<py::object>* held) {
            const py::gil_scoped_acquire acquired;
            delete held;
          }};
}

}  // namespace

std::shared_ptr<cuda::Memory> CudaPlan::torch_memory() const {
  return std::make_shared<TorchMemory>(device_.device_id);
}

void* CudaPlan::current_stream() const {
  void* stream = nullptr;
  if (exchange_api()->current_work_stream(device_.device_type, device_.device_id, &stream) != 0) {
    throw py::error_already_set();
  }
  return stream;
}

bool CudaPlan::read(const StepInputs& inputs) {
  void* const stream = current_stream();
  while (!launcher_.prepare(stream)) {
    const py::gil_scoped_release released;
    launcher_.wait();
  }
  return HostPlan::read(inputs);
}

void CudaPlan::stage() { launcher_.stage({entries_, extras_, groups_, schedules_, generation_}); }

void CudaPlan::launch_norms() { launcher_.launch_norms(step_, norms_); }

void CudaPlan::launch_kernel(bool advance) {
  step_.advance = advance;
  launcher_.launch(step_, norms_, is_measured(),
                   launcher_.is_capturing() ? hold(scalar_objects()) : nullptr);
}

bool CudaPlan::update_captured(const py::list& groups) {
  if (!read_groups(groups) || !look_at_rates()) return false;
  const std::shared_ptr<void> held = hold(scalar_objects());
  void* const stream = current_stream();
  const py::gil_scoped_release released;
  launcher_.update_captured(groups_, stream, held);
  return true;
}

void translate_out_of_memory() {
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const cuda::OutOfMemory& caught) {
      py::set_error(py::module_::import("torch").attr("OutOfMemoryError"), caught.what());
    }
  });
}

}  // namespace fused_warmup
