// Tensors in, pointers out: what Python sees of the native kernels.
#include <pybind11/pybind11.h>

#include "cpu_plan.h"
#include "watch.h"

namespace py = pybind11;
using namespace fused_warmup;

namespace {

std::vector<double> schedule_factors(const std::string& packed, const std::vector<double>& values,
                                     const std::vector<int64_t>& steps) {
  std::vector<Segment> segments(packed.size() / sizeof(Segment));
  std::memcpy(segments.data(), packed.data(), segments.size() * sizeof(Segment));
  const Schedule schedule{segments.data(), static_cast<int64_t>(segments.size()), values.data()};
  std::vector<double> factors;
  factors.reserve(steps.size());
  for (const int64_t t : steps) factors.push_back(schedule_factor(schedule, t));
  return factors;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of fused_warmup.";

  m.def("schedule_factors", &schedule_factors, py::arg("segments"), py::arg("values"),
        py::arg("steps"), "Factors of a packed schedule, as the kernels compute them.");
  m.def("cpu_capabilities", &cpu_capabilities,
        "Instruction sets that this build and this processor have, best last.");

  py::class_<Watch>(m, "Watch")
      .def(py::init<const py::dict&, const py::list&>(), py::arg("state"), py::arg("groups"))
      .def("unchanged", &Watch::unchanged, py::arg("state"), py::arg("groups"));

  py::class_<HostPlan>(m, "HostPlan")
      .def("prepare", &HostPlan::prepare, py::arg("groups"), py::arg("grads"),
           py::arg("grad_scale"), py::arg("found_inf"), py::arg("write_grads"))
      .def_property_readonly("active", &HostPlan::active);

  py::class_<CpuPlan, HostPlan>(m, "CpuPlan")
      .def(py::init<const std::string&, const py::list&, const py::list&, const py::list&, const std::vector<int32_t>&,
                    const py::list&, const std::vector<int32_t>&, const py::object&,
                    const py::object&>(),
           py::arg("capability"), py::arg("params"), py::arg("momentum_buffers"), py::arg("first_steps"),
           py::arg("group_of"), py::arg("schedules"), py::arg("schedule_of"), py::arg("t"),
           py::arg("lr"))
      .def("launch", &CpuPlan::launch, py::arg("advance"));
}
