// Sequential: layers and functions one after another, called "0", "1", ...
//
//   nn::Sequential model(nn::layer<nn::Linear>(784, 256), relu, nn::layer<nn::Dropout>(0.1),
//                        nn::layer<nn::Linear>(256, 10));
//   struct Net : nn::Module {
//     nn::Sequential head{*this, "head", nn::layer<nn::LayerNorm>(64), nn::layer<nn::Linear>(64, 10)};
//   };
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/module.h"

namespace tandem::nn {

// A function as a module: nn::Lambda pool{*this, "pool", [](const Tensor& x) { return x.mean({2, 3}); }}.
struct Lambda : Layer<Lambda> {
  Lambda(Module& parent, std::string name, std::function<Tensor(const Tensor&)> function)
      : Layer(parent, std::move(name)), function(std::move(function)) {}
  Tensor forward(const Tensor& x) { return function(x); }

  const std::function<Tensor(const Tensor&)> function;
};

class Sequential : public Layer<Sequential> {
 public:
  // Parts are of layer<L>(), or functions of one tensor. A root, or a child as every layer.
  template <class... Parts>
  explicit Sequential(Parts&&... parts) requires(sizeof...(Parts) > 0 &&
                                                 !(std::derived_from<std::remove_cvref_t<Parts>, Module> ||
                                                   ...)) {
    (add(std::forward<Parts>(parts)), ...);
  }
  template <class... Parts>
  Sequential(Module& parent, std::string name, Parts&&... parts) : Layer(parent, std::move(name)) {
    (add(std::forward<Parts>(parts)), ...);
  }

  Tensor forward(Tensor x) {
    for (const Part& part : parts_) x = part.run(x);
    return x;
  }
  size_t size() const { return parts_.size(); }  // parts
  // The i-th part: sequential.at<nn::Linear>(0).weight. std::bad_cast where it is of another kind.
  template <class L> L& at(size_t i) { return dynamic_cast<L&>(*parts_.at(i).module); }

 private:
  struct Part {
    std::unique_ptr<Module> module;
    std::function<Tensor(const Tensor&)> run;
  };
  template <class P> void add(P&& part) {
    std::string name = std::to_string(parts_.size());
    if constexpr (std::invocable<P&, Module&, std::string>) {
      auto made = part(*this, std::move(name));
      auto& layer = *made;
      parts_.push_back({std::move(made), [&layer](const Tensor& x) { return layer(x); }});
    } else {
      auto made =
          std::make_unique<Lambda>(*this, std::move(name), [f = part](const Tensor& x) { return f(x); });
      Lambda& layer = *made;
      parts_.push_back({std::move(made), [&layer](const Tensor& x) { return layer(x); }});
    }
  }

  std::vector<Part> parts_;
};

// How to make an L(parent, name, arguments...), for Sequential.
template <class L, class... Args> auto layer(Args... arguments) {
  return [=](Module& parent, std::string name) {
    return std::make_unique<L>(parent, std::move(name), arguments...);
  };
}

}  // namespace tandem::nn
