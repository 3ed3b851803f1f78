/* Calls a compiled net from C: reads a PGM picture from the file named, prints the ten scores.
 * Built by run.sh. The library needs no set-up, allocates nothing and keeps no state. */
#include "lenet.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    unsigned char pixels[LENET_INPUT_SIZE];
    float in[LENET_INPUT_SIZE], out[LENET_OUTPUT_SIZE];
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (!f || fscanf(f, "P5 28 28 255%*c") != 0 || fread(pixels, 1, sizeof pixels, f) != sizeof pixels) {
        fprintf(stderr, "usage: main PICTURE.pgm   (28 x 28, grey)\n");
        return 1;
    }
    fclose(f);
    for (int i = 0; i < LENET_INPUT_SIZE; i++)
        in[i] = pixels[i] / 255.0f;          /* the net subtracts the mean and divides by the deviation itself */
    void *workspace = aligned_alloc(64, (lenet_workspace_size() + 63) / 64 * 64);
    if (!workspace || lenet_infer(in, out, workspace) != 0)
        return 1;
    free(workspace);
    for (int i = 0; i < LENET_OUTPUT_SIZE; i++)
        printf("%s %.4f\n", lenet_class_name(i), out[i]);
    return 0;
}
