/* PyTorch's .pt/.pth files, as torch.save writes them since PyTorch 1.6: a zip of stored entries with a pickled state_dict.
 * The pickle is read by a restricted reader: nothing in the file is ever executed. */
#ifndef CNNC_RUNTIME_PT_H
#define CNNC_RUNTIME_PT_H
#include "runtime/weights.h"

bool pt_looks_like(const uint8_t *bytes, size_t len);   /* a zip, or a pickle (legacy files are declined by pt_parse) */
/* A state_dict, or a dict with one in "state_dict", "model_state_dict" or "model". */
bool pt_parse(const uint8_t *bytes, size_t len, const char *name, WeightsFile *out, RtError *e);
#endif
