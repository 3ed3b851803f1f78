/* How many cores this process may keep busy. */
#ifndef CNNC_RUNTIME_CORES_H
#define CNNC_RUNTIME_CORES_H

/* By affinity mask and control-group quotas; at least 1. */
int cores_allowed(void);
/* Cores' worth of time that the control groups grant, the least of this process's group and all above it; 0: no quota.
 * root: "" or, in tests, a folder that stands for the root of the file system. */
double cores_quota(const char *root);
#endif
