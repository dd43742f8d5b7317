#include "host/torch_words.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <initializer_list>
#include <string>

#include "host/torch_abi.h"

namespace fused_warmup {
namespace {

namespace py = pybind11;

// So many words are surely an object's own.
constexpr int N_IMPL = 23;
constexpr int N_STORAGE = 9;
constexpr int N_RECORD = 8;
// Of the words that describe a tensor, the one of dtype, device and flags, and the bit of it that
// torch leaves as its memory was before. The trial ignores it. A look does not, as a later release
// may use it: where it differs by chance, libtorch is asked once more.
constexpr int FLAGS = 13;
constexpr uintptr_t PADDING = uintptr_t{1} << 63;
constexpr int MAX_DIMS = 5;  // with more, sizes and strides lie elsewhere

const uintptr_t* words_at(uintptr_t object) { return reinterpret_cast<const uintptr_t*>(object); }

// The one word that has each of the values in its object; -1 where none or several have.
struct Sought {
  uintptr_t object, value;
};
int find_word(int n_words, std::initializer_list<Sought> all) {
  int found = -1;
  for (int i = 0; i < n_words; ++i) {
    bool good = true;
    for (const Sought& each : all) good = good && words_at(each.object)[i] == each.value;
    if (good && found >= 0) return -1;
    if (good) found = i;
  }
  return found;
}

class Trial {
 public:
  explicit Trial(const TorchAbi& abi) : abi_(abi), torch_(py::module_::import("torch")) {}

  TorchWords run() {
    words_.found =
        find_description() && find_storage() && find_memory() && find_lazy_byte() && find_grad();
    return words_;
  }

 private:
  TorchAbi::Tensor* tensor_of(const py::object& object) const {
    return reinterpret_cast<TorchAbi::Tensor*>(reinterpret_cast<char*>(object.ptr()) + abi_.offset);
  }
  uintptr_t impl_of(const py::object& object) const {
    return reinterpret_cast<uintptr_t>(*tensor_of(object));
  }
  static uintptr_t storage_of(const py::object& tensor) {
    return tensor.attr("untyped_storage")().attr("_cdata").cast<uintptr_t>();
  }
  static uintptr_t memory_of(const py::object& tensor) {
    return tensor.attr("untyped_storage")().attr("data_ptr")().cast<uintptr_t>();
  }
  py::object zeros(const py::tuple& shape, const char* dtype = "float32") const {
    return torch_.attr("zeros")(shape, py::arg("device") = "cpu",
                                py::arg("dtype") = torch_.attr(dtype));
  }

  bool is_described_alike(const py::object& a, const py::object& b) const {
    const uintptr_t* const one = words_at(impl_of(a)) + words_.described_at;
    const uintptr_t* const other = words_at(impl_of(b)) + words_.described_at;
    for (int i = 0; i < TorchWords::N_DESCRIBING; ++i) {
      const uintptr_t differ = one[i] ^ other[i];
      if ((i == FLAGS ? differ & ~PADDING : differ) != 0) return false;
    }
    return true;
  }

  bool find_description() {
    const py::object plain = zeros(py::make_tuple(2, 3, 4));
    int64_t *sizes = nullptr, *strides = nullptr;
    if (abi_.get_sizes(tensor_of(plain), &sizes) != 0 ||
        abi_.get_strides(tensor_of(plain), &strides) != 0) {
      return false;
    }
    const uintptr_t impl = impl_of(plain);
    const auto at = (reinterpret_cast<uintptr_t>(sizes) - impl) / sizeof(uintptr_t);
    if (at < 2 || at > N_IMPL - TorchWords::N_DESCRIBING + 1 || strides != sizes + MAX_DIMS) {
      return false;
    }
    words_.vtable = words_at(impl)[0];
    words_.described_at = static_cast<int>(at) - 1;
    if (words_at(impl)[words_.described_at] != 3 ||
        !is_described_alike(plain, zeros(py::make_tuple(2, 3, 4)))) {
      return false;
    }
    // Each differs from it in one thing.
    const py::object longer = zeros(py::make_tuple(2, 3, 5));
    const py::object other[] = {longer.attr("narrow")(2, 0, 4),
                                zeros(py::make_tuple(2, 4, 3)).attr("transpose")(1, 2),
                                zeros(py::make_tuple(3, 3, 4)).attr("narrow")(0, 1, 2),
                                zeros(py::make_tuple(3, 2, 4)),
                                zeros(py::make_tuple(2, 3, 4, 1)),
                                zeros(py::make_tuple(2, 3, 4), "int32"),
                                zeros(py::make_tuple(2, 3, 4), "bfloat16"),
                                plain.attr("to")("meta"),
                                plain.attr("to_sparse")(),
                                torch_.attr("_neg_view")(plain)};
    for (const py::object& each : other) {
      if (is_described_alike(plain, each)) return false;
    }
    return true;
  }

  bool find_storage() {
    const py::object a = zeros(py::make_tuple(2)), b = zeros(py::make_tuple(2));
    words_.storage =
        find_word(words_.described_at, {{impl_of(a), storage_of(a)}, {impl_of(b), storage_of(b)}});
    return words_.storage >= 0;
  }

  bool find_memory() {
    // Memory that somebody else owns, for a storage points to its owner, too.
    const auto borrowed = [this](size_t n_bytes) {
      return torch_.attr("frombuffer")(py::bytearray(py::bytes(std::string(n_bytes, '\0'))),
                                       py::arg("dtype") = torch_.attr("float32"));
    };
    const py::object a = borrowed(44), b = borrowed(92);
    words_.storage_data =
        find_word(N_STORAGE, {{storage_of(a), memory_of(a)}, {storage_of(b), memory_of(b)}});
    words_.storage_bytes = find_word(N_STORAGE, {{storage_of(a), 44}, {storage_of(b), 92}});
    return words_.storage_data >= 0 && words_.storage_bytes >= 0;
  }

  // The flags of a storage lie behind its size.
  bool find_lazy_byte() {
    if (words_.storage_bytes + 1 >= N_STORAGE) return false;
    const py::object tensor = zeros(py::make_tuple(2));
    const auto* bytes = reinterpret_cast<const unsigned char*>(storage_of(tensor));
    const int first = (words_.storage_bytes + 1) * static_cast<int>(sizeof(uintptr_t));
    unsigned char before[sizeof(uintptr_t)];
    std::copy_n(bytes + first, sizeof before, before);
    const py::object clone = torch_.attr("_lazy_clone")(tensor);
    int n_found = 0;
    for (int i = 0; i < static_cast<int>(sizeof before); ++i) {
      if (before[i] == bytes[first + i]) continue;
      if (before[i] != 0) return false;
      words_.storage_is_lazy = first + i;
      ++n_found;
    }
    if (n_found != 1) return false;
    tensor.attr("data_ptr")();  // gives it memory of its own
    return bytes[words_.storage_is_lazy] == 0;
  }

  bool find_grad() {
    const py::object leaf = zeros(py::make_tuple(2)).attr("requires_grad_")();
    const py::object grad = zeros(py::make_tuple(2)), other = zeros(py::make_tuple(2));
    const uintptr_t none = words_at(impl_of(grad))[words_.storage + 1];
    if (none != 0) return false;
    leaf.attr("grad") = grad;
    const uintptr_t record = words_at(impl_of(leaf))[words_.storage + 1];
    if (record == 0) return false;
    words_.record_grad = find_word(N_RECORD, {{record, impl_of(grad)}});
    if (words_.record_grad < 0) return false;
    const uintptr_t& held = words_at(record)[words_.record_grad];
    leaf.attr("grad") = other;
    if (held != impl_of(other)) return false;
    leaf.attr("grad") = py::none();
    return held == reinterpret_cast<uintptr_t>(abi_.undefined);
  }

  const TorchAbi& abi_;
  py::module_ torch_;
  TorchWords words_{};
};

}  // namespace

TorchWords torch_words{};

TorchWords find_torch_words(const TorchAbi& abi) {
  try {
    return Trial(abi).run();
  } catch (const py::error_already_set&) {  // it lacks what the trial needs
    return {};
  }
}

}  // namespace fused_warmup
