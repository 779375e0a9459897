// Everything that runs on the device, as one program.
#include "attention.cu"
#include "attention_tile.cu"
#include "draw.cu"
#include "fast.cu"
#include "linear.cu"
#include "rows.cu"
#include "spread.cu"
#include "tiles.cu"

// What the host hands over has these sizes there too (src/cuda/plan.rs).
static_assert(sizeof(Row) == 16 && sizeof(Sequence) == 24 && sizeof(Slots) == 16, "the plan of a pass");
static_assert(sizeof(Sight) == 16 && sizeof(RowTile) == 48, "what rows see");
static_assert(sizeof(Matrix) == 24 && sizeof(Product) == 40 && sizeof(Linear) == 200, "products");
static_assert(sizeof(Rotation) == 160 && sizeof(Attention) == 200, "attention");
static_assert(sizeof(Drawing) == 24, "draws");
