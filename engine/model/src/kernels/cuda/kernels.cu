// Everything that runs on the device, as one program.
#include "attention.cu"
#include "linear.cu"
#include "rows.cu"
