// Everything that runs on the device, as one program.
#include "attention.cu"
#include "linear.cu"
#include "rows.cu"
#include "tiles.cu"

// What the host hands over has these sizes there too (src/cuda/plan.rs).
static_assert(sizeof(Row) == 32 && sizeof(Sequence) == 24 && sizeof(Slots) == 32, "the plan of a pass");
static_assert(sizeof(Matrix) == 24 && sizeof(Product) == 40 && sizeof(Linear) == 176, "products");
static_assert(sizeof(Rotation) == 168 && sizeof(Attention) == 192, "attention");
