/* init: initial weights as a file.
 * In: a model and a seed. Out: safetensors; with --seed S the bits that PyTorch draws after torch.manual_seed(S).
 * The idea: the table of tensors is in the order in which PyTorch would build the layers. */
#include "runtime/init.h"
#include "frontend/commands/code.h"
#include "frontend/commands/commands.h"
#include "runtime/weights.h"
#include <stdlib.h>

int command_init(Options *o)
{
    Compile cc;
    bool done;
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done) {
        int32_t n;
        int64_t bytes;
        CnncTensor *tensors = compile_tensors(cc.arena, cc.module.graph, NULL, &n, &bytes);
        char *state = arena_alloc(cc.arena, (size_t)bytes);
        const char *out = o->out ? o->out : arena_printf(cc.arena, "%s.safetensors", cc.stem);
        unsigned roles = 1u << CNNC_ROLE_PARAM | 1u << CNNC_ROLE_FROZEN | 1u << CNNC_ROLE_BUFFER;
        RtError e = {0};
        Rng rng;
        uint64_t seed = code_seed(&cc);
        rng_seed(&rng, seed);
        init_state(tensors, n, &rng, state, bytes);
        WeightsMeta classes = {(char *)"classes", cc.module.labels ? weights_join(cc.module.labels, cc.module.n_labels) : NULL};
        if (!weights_write(out, tensors, n, roles, state, &classes, classes.value != NULL, &e))
            status = code_runtime_error(&e);
        else if (!o->quiet)
            fprintf(stderr, "%s: %d tensors, seed %llu\n", out, n, (unsigned long long)seed);
        free(classes.value);
    }
    driver_free(&cc);
    return status;
}
