// A warp's products, from their issue until it waits for them.
//
// What they read is read when they are issued: whoever writes it before the wait gets a
// fault, so that nothing else could come out. In between the sums hold a number that no
// sum is, by which it is seen that somebody wrote them, and which spoils what is
// computed from them.
#include "warpgroups.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "block.h"
#include "device.h"
#include "emulation/collectives.h"
#include "emulation/shared_element.h"
#include "emulation/warpgroups.h"
#include "matrix_descriptors.h"
#include "order.h"
#include "shared_arrays.h"
#include "sums.h"

namespace emulator {
namespace {

constexpr unsigned kWarpsOfGroup = 4;
constexpr int kRows = 16;  // of a warp
constexpr int kDepth = 16;
// A signalling NaN: what is computed from it is another one.
constexpr uint32_t kUnderWay = 0x7f95a5a5u;

struct Product {
  uint32_t number = 0;  // among those of the warp
  Factor type{};
  int columns = 0;
  bool adds = false;
  float* places[kWarpSize];  // of the lanes' sums
  float left[kRows][kDepth];
  std::vector<std::array<float[8], kDepth>> right;  // for each eight columns
  std::vector<float> sums;                          // of lane after lane
  std::vector<SharedHistory*> reads;

  int sums_of_lane() const { return columns / 2; }
};

struct ProductsOfWarp {
  std::deque<Product> under_way;
  std::vector<uint32_t> ends_of_groups;  // the numbers of what follows them
  uint32_t issued = 0;
  bool have_begun = false;
};

std::array<ProductsOfWarp, kMaxThreads / kWarpSize> products_of_warps;

unsigned running_warp() { return running_thread() / kWarpSize; }

// While one of these lives, accesses are those of a warp's products.
class AsProduct {
 public:
  AsProduct(unsigned warp, uint32_t number) : before_(now) {
    now.thread = static_cast<uint16_t>(kFirstProducts + warp);
    now.syncs = number;
  }
  ~AsProduct() {
    now.thread = before_.thread;
    now.syncs = before_.syncs;
  }
  AsProduct(const AsProduct&) = delete;
  AsProduct& operator=(const AsProduct&) = delete;

 private:
  Moment before_;
};

// --- Factors -----------------------------------------------------------------------

class FactorReader {
 public:
  FactorReader(const char* name, const SharedMatrix& matrix, Product* product)
      : name_(name),
        matrix_(matrix),
        array_(array_at(name, matrix.start)),
        product_(product) {}

  float read(unsigned line, unsigned k) {
    const ElementInArray element = element_at(name_, array_, matrix_.place_of(line, k));
    element.history->on_read_by_product();
    product_->reads.push_back(element.history);
    return value_of(element.bits, product_->type);
  }

 private:
  const char* name_;
  SharedMatrix matrix_;
  size_t array_;
  Product* product_;
};

void read_left(const char* name, uint64_t descriptor, Product* product) {
  FactorReader reader(name, matrix_of(name, descriptor, Major::kDepth), product);
  const unsigned first = running_warp() % kWarpsOfGroup * kRows;
  for (unsigned row = 0; row < kRows; ++row) {
    for (unsigned k = 0; k < kDepth; ++k) {
      product->left[row][k] = reader.read(first + row, k);
    }
  }
}

void read_right(const char* name, uint64_t descriptor, Major major, Product* product) {
  FactorReader reader(name, matrix_of(name, descriptor, major), product);
  product->right.resize(static_cast<size_t>(product->columns / 8));
  for (int column = 0; column < product->columns; ++column) {
    auto& columns = product->right[static_cast<size_t>(column / 8)];
    for (unsigned k = 0; k < kDepth; ++k) {
      columns[k][column % 8] = reader.read(static_cast<unsigned>(column), k);
    }
  }
}

void unpack_left(const ProductOfWarpgroup& operands, unsigned lane, Product* product) {
  for (unsigned word = 0; word < 4; ++word) {
    const unsigned row = lane / 4 + 8 * (word % 2);
    const unsigned k = 2 * (lane % 4) + 8 * (word / 2);
    const uint32_t pair = operands.left[word];
    product->left[row][k] = value_of(pair & 0xffffu, product->type);
    product->left[row][k + 1] = value_of(pair >> 16, product->type);
  }
}

// --- Sums --------------------------------------------------------------------------

bool overlap(const Product& left, const Product& right, unsigned lane) {
  return left.places[lane] < right.places[lane] + right.sums_of_lane() &&
         right.places[lane] < left.places[lane] + left.sums_of_lane();
}

bool have_the_same_sums(const Product& left, const Product& right) {
  return left.columns == right.columns &&
         std::equal(left.places, left.places + kWarpSize, right.places);
}

const Product* product_before(const ProductsOfWarp& products, const Product& product) {
  const Product* latest = nullptr;
  for (const Product& earlier : products.under_way) {
    bool share_sums = false;
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      share_sums |= overlap(earlier, product, lane);
    }
    if (!share_sums) continue;
    if (!have_the_same_sums(earlier, product)) {
      raise_fault(cudaErrorLaunchFailure,
                  "product whose sums are in part those of another that is under way");
    }
    latest = &earlier;
  }
  return latest;
}

void check_untouched(const Product& product) {
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    for (int sum = 0; sum < product.sums_of_lane(); ++sum) {
      uint32_t bits;
      std::memcpy(&bits, product.places[lane] + sum, sizeof bits);
      if (bits == kUnderWay) continue;
      raise_fault(cudaErrorLaunchFailure, "sums of lane " + std::to_string(lane) +
                                              " were written before wait_for_products");
    }
  }
}

void take_sums(Product* product) {
  const auto count = static_cast<size_t>(product->sums_of_lane());
  product->sums.resize(kWarpSize * count);
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    float* place = product->places[lane];
    if (product->adds) {
      std::memcpy(&product->sums[lane * count], place, count * sizeof(float));
    }
    for (size_t sum = 0; sum < count; ++sum) {
      std::memcpy(place + sum, &kUnderWay, sizeof kUnderWay);
    }
  }
}

void give_sums(const Product& product) {
  const auto count = static_cast<size_t>(product.sums_of_lane());
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    std::memcpy(product.places[lane], &product.sums[lane * count],
                count * sizeof(float));
  }
}

// Four lanes hold a row's sums of eight columns, two each.
void add_up(Product* product, int row, int eight) {
  float* places[8];
  float sums[8];
  for (int column = 0; column < 8; ++column) {
    const int lane = 4 * (row % 8) + column / 2;
    const int sum = 4 * eight + 2 * (row / 8) + column % 2;
    places[column] =
        &product->sums[static_cast<size_t>(lane * product->sums_of_lane() + sum)];
    sums[column] = *places[column];
  }
  const auto& right = product->right[static_cast<size_t>(eight)];
  add_products(product->left[row], right.data(), kDepth, product->type, sums);
  for (int column = 0; column < 8; ++column) *places[column] = sums[column];
}

// --- Issue and end -----------------------------------------------------------------

void check_lanes(const char* name, void* const (&operands)[32]) {
  const auto& first = *static_cast<ProductOfWarpgroup*>(operands[0]);
  for (unsigned lane = 1; lane < kWarpSize; ++lane) {
    const auto& other = *static_cast<ProductOfWarpgroup*>(operands[lane]);
    if (other.left_matrix == first.left_matrix &&
        other.right_matrix == first.right_matrix && other.adds == first.adds &&
        other.columns == first.columns && other.type == first.type) {
      continue;
    }
    raise_fault(cudaErrorLaunchFailure, std::string(name) + " of which lane " +
                                            std::to_string(lane) +
                                            " asks for another product than lane 0");
  }
}

void check_warpgroup(const char* name) {
  if (running_warp() / kWarpsOfGroup < warps_of_block() / kWarpsOfGroup) return;
  raise_fault(cudaErrorLaunchFailure,
              std::string(name) + " by a warp whose warpgroup has less than four");
}

Product product_of(void* const (&operands)[32], uint32_t number) {
  const auto& first = *static_cast<ProductOfWarpgroup*>(operands[0]);
  Product product;
  product.number = number;
  product.type = first.type;
  product.columns = first.columns;
  product.adds = first.adds;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    product.places[lane] = static_cast<ProductOfWarpgroup*>(operands[lane])->sums;
  }
  return product;
}

void issue(const char* name, void* const (&operands)[32], bool left_is_shared) {
  check_warpgroup(name);
  check_lanes(name, operands);
  ProductsOfWarp& products = products_of_warps[running_warp()];
  if (!products.have_begun) {
    raise_fault(cudaErrorLaunchFailure, std::string("missing begin_products: ") + name);
  }
  const auto& first = *static_cast<ProductOfWarpgroup*>(operands[0]);
  Product product = product_of(operands, products.issued);
  {
    const AsProduct reads(running_warp(), product.number);
    if (left_is_shared) read_left(name, first.left_matrix, &product);
    read_right(name, first.right_matrix,
               left_is_shared ? Major::kDepth : Major::kColumns, &product);
  }
  for (unsigned lane = 0; lane < kWarpSize && !left_is_shared; ++lane) {
    unpack_left(*static_cast<ProductOfWarpgroup*>(operands[lane]), lane, &product);
  }
  if (const Product* before = product_before(products, product)) {
    check_untouched(*before);
  }
  take_sums(&product);
  products.under_way.push_back(std::move(product));
  ++products.issued;
}

// The sums go to the next product that adds to them, or to the lanes.
void end_first(ProductsOfWarp* products) {
  Product product = std::move(products->under_way.front());
  products->under_way.pop_front();
  check_untouched(product);
  for (int row = 0; row < kRows; ++row) {
    for (int eight = 0; eight < product.columns / 8; ++eight) {
      add_up(&product, row, eight);
    }
  }
  for (Product& later : products->under_way) {
    if (!have_the_same_sums(later, product)) continue;
    if (later.adds) later.sums = std::move(product.sums);
    return;
  }
  give_sums(product);
}

// --- Calls of a warp ---------------------------------------------------------------

void issue_shared(void* const (&operands)[32]) {
  issue("multiply_shared", operands, true);
}
void issue_registers(void* const (&operands)[32]) {
  issue("multiply_registers", operands, false);
}

void begin(void* const (&)[32]) { products_of_warps[running_warp()].have_begun = true; }

void commit(void* const (&)[32]) {
  ProductsOfWarp& products = products_of_warps[running_warp()];
  products.ends_of_groups.push_back(products.issued);
}

void wait(void* const (&operands)[32]) {
  ProductsOfWarp& products = products_of_warps[running_warp()];
  products.have_begun = false;
  const size_t groups = products.ends_of_groups.size();
  const auto pending = static_cast<size_t>(*static_cast<int*>(operands[0]));
  if (groups <= pending) return;
  const uint32_t end = products.ends_of_groups[groups - pending - 1];
  products.ends_of_groups.erase(
      products.ends_of_groups.begin(),
      products.ends_of_groups.end() - static_cast<ptrdiff_t>(pending));
  while (!products.under_way.empty() && products.under_way.front().number < end) {
    end_first(&products);
  }
  finish_products(running_warp(), end);
}

constexpr WarpCall kMultiplyShared = {"multiply_shared", issue_shared};
constexpr WarpCall kMultiplyRegisters = {"multiply_registers", issue_registers};
constexpr WarpCall kBegin = {"begin_products", begin};
constexpr WarpCall kCommit = {"commit_products", commit};
constexpr WarpCall kWait = {"wait_for_products", wait};

void take_part_on_hopper(const WarpCall& call, void* operands) {
  require_exact_capability(9, 0, call.name);
  keep_order();
  take_part_in(call, operands);
}

// --- The end of a block ------------------------------------------------------------

FaultOfThread fault_of(unsigned warp, const std::string& message) {
  return {warp * kWarpSize, message};
}

bool are_committed(const ProductsOfWarp& products) {
  return !products.ends_of_groups.empty() &&
         products.ends_of_groups.back() == products.issued;
}

}  // namespace

void begin_block_in_warpgroups() {
  for (ProductsOfWarp& products : products_of_warps) products = ProductsOfWarp{};
}

void keep_products_under_way() {
  for (unsigned warp = 0; warp < warps_of_block(); ++warp) {
    for (const Product& product : products_of_warps[warp].under_way) {
      const AsProduct reads(warp, product.number);
      for (SharedHistory* history : product.reads) history->on_read();
    }
  }
}

std::optional<FaultOfThread> fault_in_warpgroups() {
  for (unsigned warp = 0; warp < warps_of_block(); ++warp) {
    const ProductsOfWarp& products = products_of_warps[warp];
    const unsigned first = warp / kWarpsOfGroup * kWarpsOfGroup;
    if (!products.under_way.empty()) {
      return fault_of(warp, are_committed(products)
                                ? "product without a wait_for_products before the "
                                  "block ends"
                                : "product without a commit_products");
    }
    if (products.issued != products_of_warps[first].issued) {
      return fault_of(warp, "warp " + std::to_string(warp) + " has issued " +
                                std::to_string(products.issued) +
                                " products, another of its warpgroup " +
                                std::to_string(products_of_warps[first].issued));
    }
  }
  return std::nullopt;
}

uint32_t place_in_shared_memory(const void* element, int bytes) {
  return locate_in_shared_arrays("shared_address_of", element, bytes);
}

void show_writes_to_products() {
  require_exact_capability(9, 0, "show_writes_to_products");
  keep_order();
  show_writes();
}

void begin_products() { take_part_on_hopper(kBegin, nullptr); }
void commit_products() { take_part_on_hopper(kCommit, nullptr); }
void wait_for_products(int pending) { take_part_on_hopper(kWait, &pending); }
void multiply_shared(ProductOfWarpgroup* product) {
  take_part_on_hopper(kMultiplyShared, product);
}
void multiply_registers(ProductOfWarpgroup* product) {
  take_part_on_hopper(kMultiplyRegisters, product);
}

}  // namespace emulator
