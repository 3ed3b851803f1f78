/* The readers behind data_open: each fills the wanted parts of a zeroed DataPair; data_open frees it when one fails. */
#ifndef CNNC_RUNTIME_DATA_READERS_H
#define CNNC_RUNTIME_DATA_READERS_H
#include "runtime/data.h"

bool data_open_mnist(const DataRequest *r, DataPair *out, RtError *e);    /* MNIST, FashionMNIST, Digits */
bool data_open_cifar(const DataRequest *r, DataPair *out, RtError *e);
bool data_open_folder(const DataRequest *r, DataPair *out, RtError *e);
bool data_open_npy(const DataRequest *r, DataPair *out, RtError *e);

/* folder/name as a new string; NULL when there is no memory */
char *path_join(const char *folder, const char *name);
void data_set_shape(Dataset *d, int rank, const int64_t *shape);
/* A copy of a list of names, for class_names; NULL when there is no memory. */
char **data_copy_names(const char *const *names, int32_t n);
#endif
