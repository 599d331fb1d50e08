// Batch norm of a map whose passes run over pieces that another layer has just made, or is about to read.
#pragma once

#include "core/context.h"
#include "core/view.h"
#include "ops/batch_norm_act/batch_norm_act_args.h"

namespace leyolo {

// Sums over the pixels of a piece of a map, per channel, in memory of somebody else.
struct NormSums {
  int64_t channels;
  double* memory;  // [size(channels)]

  static int64_t size(int64_t channels) { return 1 + 2 * channels; }
  double& count() const { return *memory; }                 // pixels
  double* first() const { return memory + 1; }              // mean; or the sum of dz
  double* second() const { return memory + 1 + channels; }  // squares around it; or the sum of dz (z - mean)
  NormSums piece(int64_t i) const { return {channels, memory + i * size(channels)}; }  // of an array of them
  void clear() const;
};

// What norm passes read of a layer, each [period].
struct NormTables {
  int64_t channels, period;
  float *mean, *scale, *shift, *offset, *slope;
  Activation activation;

  static int64_t size(int64_t channels);  // float32 values
  NormTables(float* memory, int64_t channels, Activation activation);

  void set(float const* mean, float const* variance, View weight, View bias, double eps);
  // From the sums of dz and of dz (z - mean) over `pixels` to what the gradient of z takes from them.
  void set_gradient(double const* dz, double const* dz_z, float const* variance, double eps, int64_t pixels);

  // Of `pixels` pixels of z: activation(norm(z)), maybe with the slopes of the activation; or the gradient of z from
  // dz.
  void apply(float const* z, int64_t pixels, float* out, float* slopes = nullptr) const;
  void gradient(float const* dz, float const* z, int64_t pixels, float* out) const;

 private:
  NormArgs args(float const* z, int64_t pixels) const;
  friend struct NormPass;
};

// Adds to sums, with tables of its own in `memory`.
struct NormPass {
  float* memory;  // [size(channels)]

  static int64_t size(int64_t channels);  // float32 values
  // Mean and squares around it (Chan, Golub and LeVeque 1979).
  void statistics(float const* z, int64_t pixels, NormSums const& sums) const;
  // Of dz, the gradient of norm(z): `gradient` times the slopes, which replaces it; or as it is.
  void gradients(NormTables const& tables, float const* dz, float const* z, int64_t pixels, NormSums const& sums) const;
  void gradients(NormTables const& tables, float* gradient, float const* slopes, float const* z, int64_t pixels,
                 NormSums const& sums) const;

 private:
  void gradients(void (*pass)(NormArgs const&), NormArgs all, NormSums const& sums) const;
};

// Adds what the pieces hold to the first one, in their order: mean and squares, or plain sums.
void merge_statistics(NormSums const& sums, int64_t pieces);
void merge_gradients(NormSums const& sums, int64_t pieces);

}  // namespace leyolo
