#include "runtime/data_readers.h"
bool data_open_npy(const DataRequest *r, DataPair *out, RtError *e) { (void)r, (void)out; return rt_error(e, RT_FAIL, "not yet: Npy"); }
