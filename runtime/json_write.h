/* Writing JSON to a stream: the few pieces that the runtime's outputs are made of. */
#ifndef CNNC_RUNTIME_JSON_WRITE_H
#define CNNC_RUNTIME_JSON_WRITE_H
#include <stdio.h>

void json_put_string(FILE *to, const char *s);      /* quoted and escaped; bytes that are no UTF-8 become U+FFFD; NULL is null */
void json_put_number(FILE *to, double x);           /* shortest text that reads back equal; null for infinities and NaN */
#endif
