// Everything that runs on the device, as one program.
#include "attention.cu"
#include "few.cu"
#include "many.cu"
#include "rows.cu"
