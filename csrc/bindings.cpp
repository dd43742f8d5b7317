// Tensors in, pointers out: what Python sees of the native kernels.
#include "cpu/plan.h"
#include "emulation/emulated.h"
#include "host/attributes.h"
#include "host/host_step.h"
#include "host/packed.h"
#include "triton/layout.h"
#include "triton/plan.h"
#ifdef WITH_CUDA
#include "cuda/device.h"
#include "cuda/plan.h"
#endif

namespace py = pybind11;
using namespace fused_warmup;

namespace {

std::vector<double> schedule_factors(const std::string& packed, const std::vector<double>& values,
                                     const std::vector<int64_t>& steps) {
  const std::vector<Segment> segments = unpack_segments(packed, values.size());
  const Schedule schedule = make_schedule(segments.data(), static_cast<int64_t>(segments.size()),
                                          values.data(), static_cast<int64_t>(values.size()));
  std::vector<double> factors;
  factors.reserve(steps.size());
  for (const int64_t t : steps) factors.push_back(schedule_factor(schedule, t));
  return factors;
}

int64_t norm_slots(const std::vector<int64_t>& sizes) {
  std::vector<TensorEntry> entries(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) entries[i].n_elements = sizes[i];
  return first_slot(work_of(entries), static_cast<int64_t>(sizes.size()));
}

// Lets Python's garbage collector see through a class that holds Python objects, so that a cycle
// (a parameter's hook that refers to the optimizer, say) does not keep a model alive for ever.
// Class::for_each_object(f) calls f with a reference to each py::object it holds.
template <typename Class>
py::custom_type_setup collectable() {
  return py::custom_type_setup([](PyHeapTypeObject* heap_type) {
    const auto get = [](PyObject* self) -> Class* {
      auto* instance = reinterpret_cast<py::detail::instance*>(self);
      if (!instance->get_value_and_holder().holder_constructed()) return nullptr;
      return py::cast<Class*>(py::handle(self));
    };
    static const auto object_of = get;
    PyTypeObject* type = &heap_type->ht_type;
    type->tp_flags |= Py_TPFLAGS_HAVE_GC;
    type->tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
      Py_VISIT(Py_TYPE(self));
      int stopped = 0;
      if (Class* object = object_of(self)) {
        object->for_each_object([&](py::object& each) {
          if (stopped == 0 && each) stopped = visit(each.ptr(), arg);
        });
      }
      return stopped;
    };
    type->tp_clear = [](PyObject* self) {
      if (Class* object = object_of(self)) {
        object->for_each_object([](py::object& each) { each = py::none(); });
      }
      return 0;
    };
  });
}

// HostStep.run_alone: called at every step, and so without pybind11's dispatcher, which reads as
// much memory as a small step does.
PyObject* run_alone(PyObject* self, PyObject* optimizer) {
  try {
    auto* instance = reinterpret_cast<py::detail::instance*>(self);
    auto* step = instance->get_value_and_holder().value_ptr<HostStep>();
    if (step == nullptr) throw py::type_error("HostStep.__init__ has not been called");
    return PyBool_FromLong(step->run_alone(optimizer));
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
  return nullptr;
}

PyMethodDef RUN_ALONE{"run_alone", run_alone, METH_O,
                      "The step of an optimizer, where nothing else is to be done; else False."};

// A plan class; all take the arguments of HostPlan after those of their own.
template <typename Plan, typename... Own, typename... Names>
py::class_<Plan, HostPlan> def_plan(py::module_& m, const char* class_name, Names... own_names) {
  return py::class_<Plan, HostPlan>(m, class_name, collectable<Plan>())
      .def(py::init<Own..., const py::list&, const py::list&, const py::list&,
                    const std::vector<int32_t>&, const py::list&, const std::vector<int32_t>&,
                    const std::vector<int32_t>&, const py::object&, const py::object&,
                    const py::list&, const py::list&, const std::vector<int32_t>&,
                    const py::object&>(),
           py::arg(own_names)..., py::arg("params"), py::arg("momentum_buffers"),
           py::arg("first_steps"), py::arg("group_of"), py::arg("schedules"),
           py::arg("schedule_of"), py::arg("momentum_schedule_of"), py::arg("t"), py::arg("lr"),
           py::arg("emas") = py::list(), py::arg("masters") = py::list(),
           py::arg("ema_schedule_of") = std::vector<int32_t>(), py::arg("norms") = py::none());
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of fused_warmup.";

  // What is found once, by Python code. At its first use another thread could ask meanwhile, or a
  // __del__ in this one, and wait for ever.
  exchange_api();
  reads_libtorch();
  is_tensor(Py_None);
  Attributes::find_settings();

  m.def("schedule_factors", &schedule_factors, py::arg("segments"), py::arg("values"),
        py::arg("steps"), "Factors of a packed schedule, as the kernels compute them.");
  m.def("norm_slots", &norm_slots, py::arg("sizes"),
        "Room for the partial sums of LARS's norms, for tensors of so many elements.");
  m.def("cpu_capabilities", &cpu_capabilities,
        "Instruction sets that this build and this processor have, best last.");

  m.def("reads_libtorch", &reads_libtorch,
        "Whether tensors are looked at through libtorch's own functions.");
  m.def(
      "reads_torch_words", [] { return reads_libtorch() && torch_words.found; },
      "Whether most looks need no call of libtorch's, the fastest way.");

  py::class_<Watch>(m, "Watch", collectable<Watch>())
      .def(py::init<const py::dict&, const py::list&>(), py::arg("state"), py::arg("groups"))
      .def("unchanged", &Watch::unchanged, py::arg("state"), py::arg("groups"));

  py::class_<HostPlan>(m, "HostPlan", collectable<HostPlan>())
      .def(
          "prepare",
          [](HostPlan& plan, const std::optional<py::list>& groups, const py::object& grads,
             const py::object& grad_scale, const py::object& found_inf, bool write_grads) {
            StepInputs inputs{groups.value_or(py::list()), grads, grad_scale, found_inf,
                              write_grads};
            inputs.same_groups = !groups;
            return plan.prepare(inputs);
          },
          py::arg("groups"), py::arg("grads"), py::arg("grad_scale"), py::arg("found_inf"),
          py::arg("write_grads"))
      .def("give_rates_to", &HostPlan::give_rates_to, py::arg("given"))
      .def("measure", &HostPlan::measure)
      .def("launch", &HostPlan::launch, py::arg("advance"))
      .def_property_readonly("active", &HostPlan::active);

  py::class_<HostStep> host_step(m, "HostStep", collectable<HostStep>());
  host_step
      .def(py::init<const py::object&, const py::list&, const py::list&, bool>(), py::arg("watch"),
           py::arg("frozen"), py::arg("plans"), py::arg("counts"))
      .def("run", &HostStep::run, py::arg("state"), py::arg("groups"), py::arg("grad_scale"),
           py::arg("found_inf"), py::arg("write_grads"));
  host_step.attr("run_alone") = py::reinterpret_steal<py::object>(
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(host_step.ptr()), &RUN_ALONE));

  def_plan<CpuPlan, const std::string&>(m, "CpuPlan", "capability");

  def_plan<EmulatedPlan, int>(m, "EmulatedPlan", "resident_blocks")
      .def("set_block_order", &EmulatedPlan::set_block_order, py::arg("order"))
      .def("launch_with", &EmulatedPlan::launch_with, py::arg("launch"))
      .def_property_readonly("n_blocks", &EmulatedPlan::n_blocks)
      .def_property_readonly("ticket", &EmulatedPlan::ticket);

  m.def("share_sizes", &share_sizes, py::arg("sizes"), py::arg("resident_blocks"),
        "The work of each of a GPU's shares, for tensors of so many elements.");

  // What fused_warmup/_backend/triton/ is handed and needs of it.
  py::class_<triton::Tables, std::shared_ptr<triton::Tables>>(m, "TritonTables")
      .def_property_readonly("size", &triton::Tables::size)
      .def_property_readonly("changing_size", &triton::Tables::changing_size)
      .def_property_readonly("groups_at", &triton::Tables::groups_at)
      .def_property_readonly("layout", &triton::Tables::layout)
      .def("write", &triton::Tables::write, py::arg("base"), py::arg("to"), py::arg("size"))
      .def("places", &triton::Tables::places);
  def_plan<TritonPlan, const py::object&, int32_t>(m, "TritonPlan", "launcher", "max_shares")
      .def("update_captured", &TritonPlan::update_captured, py::arg("groups"))
      .def_property_readonly("launcher", &TritonPlan::launcher)
      .def_property_readonly("n_captured", &TritonPlan::n_captured);
  m.attr("TABLES") = triton::layout();

#ifdef WITH_CUDA
  def_plan<CudaPlan>(m, "CudaPlan")
      .def("update_captured", &CudaPlan::update_captured, py::arg("groups"))
      .def_property_readonly("n_captured", &CudaPlan::n_captured);
  translate_out_of_memory();
  m.def("cuda_unavailable_reason", &cuda::unavailable_reason,
        "Empty if a CUDA device and a driver are there, else why not.");
  m.def("cuda_device_obstacle", &cuda::device_obstacle, py::arg("device"),
        "Empty if the kernels run on a CUDA device, else why not.");
#else
  m.def(
      "cuda_unavailable_reason", [] { return FUSED_WARMUP_NO_CUDA_REASON; },
      "Why this build has no CUDA kernel.");
#endif
}
