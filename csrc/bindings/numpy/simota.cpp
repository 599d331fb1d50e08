#include "ops/simota/simota.h"

#include "bindings/numpy/assignment.h"

namespace leyolo {

static SimotaInputs simota_inputs(py::array const& cls_logits, std::optional<py::array> const& obj_logits,
                                  py::array const& boxes, py::array const& gt_boxes, py::array const& gt_labels,
                                  py::array const& gt_counts, py::array const& centers, py::array const& strides) {
  return {view(cls_logits, "cls_logits"), view(obj_logits, "obj_logits"),
          view(boxes, "boxes"),           view_ground_truth(gt_boxes, gt_labels, gt_counts),
          view(centers, "centers"),       view(strides, "strides")};
}

static py::tuple numpy_simota_assign(py::array const& cls_logits, std::optional<py::array> const& obj_logits,
                                     py::array const& boxes, py::array const& gt_boxes, py::array const& gt_labels,
                                     py::array const& gt_counts, py::array const& centers, py::array const& strides,
                                     std::string const& rule, int64_t topk, double iou_weight, double cls_weight,
                                     std::string const& fmt) {
  SimotaInputs const in =
      simota_inputs(cls_logits, obj_logits, boxes, gt_boxes, gt_labels, gt_counts, centers, strides);
  Simota const params{rule, topk, iou_weight, cls_weight, fmt};
  simota_check("simota_assign", in, params);
  AssignedArrays const out(in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  Assigned const views = out.views();
  View const scratch = workspace(simota_workspace(in, params));
  {
    py::gil_scoped_release nogil;
    simota_assign(in, views, scratch, params, numpy_context());
  }
  return out.tuple();
}

static py::tuple numpy_simota_cost(py::array const& cls_logits, std::optional<py::array> const& obj_logits,
                                   py::array const& boxes, py::array const& gt_boxes, py::array const& gt_labels,
                                   py::array const& gt_counts, py::array const& centers, py::array const& strides,
                                   std::string const& rule, int64_t topk, double iou_weight, double cls_weight,
                                   std::string const& fmt) {
  SimotaInputs const in =
      simota_inputs(cls_logits, obj_logits, boxes, gt_boxes, gt_labels, gt_counts, centers, strides);
  Simota const params{rule, topk, iou_weight, cls_weight, fmt};
  simota_check("simota_cost", in, params);
  std::vector<int64_t> const shape = {in.boxes.shape[0], in.gt.boxes.shape[1], in.boxes.shape[1]};
  py::array const cost = empty(shape, DType::f32), iou = empty(shape, DType::f32);
  View const scratch = workspace(simota_workspace(in, params));
  View const c = view(cost, "cost"), o = view(iou, "iou");
  {
    py::gil_scoped_release nogil;
    simota_cost(in, c, o, scratch, params, numpy_context());
  }
  return py::make_tuple(cost, iou);
}

LEYOLO_NUMPY_OP(simota) {
  auto const define = [&](char const* name, auto function, char const* doc) {
    m.def(name, function, py::arg("cls_logits"), py::arg("obj_logits"), py::arg("boxes"), py::arg("gt_boxes"),
          py::arg("gt_labels"), py::arg("gt_counts"), py::arg("centers"), py::arg("strides"), py::kw_only(),
          py::arg("rule") = "main", py::arg("topk") = 10, py::arg("iou_weight") = 3.0, py::arg("cls_weight") = 1.0,
          py::arg("fmt") = "cxcywh", doc);
  };
  define("simota_assign", &numpy_simota_assign,
         "SimOTA labels of a batch: (gt_index [B, A], iou [B, A], score [B, A], num_fg [B], dynamic_k [B, G]).");
  define("simota_cost", &numpy_simota_cost,
         "SimOTA's (cost [B, G, A], iou [B, G, A]), infinite where not a candidate.");
}

}  // namespace leyolo
