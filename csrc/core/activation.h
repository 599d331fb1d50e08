// The activations that kernels apply in their epilogue. Numbers are part of the program format of `forward`.
#pragma once

namespace leyolo {

enum class Activation : int { none = 0, silu = 1, relu = 2, relu6 = 3, hardswish = 4 };

}  // namespace leyolo
