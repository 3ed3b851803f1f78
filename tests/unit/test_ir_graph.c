/* Graph construction, its text, and graph_verify's refusals. */
#include "ir/graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const Span nowhere = {0, 0};

/* input [n,2,5,5] -> conv 3x3 stride 2 with bias -> relu, shapes known. */
static Graph *small_net(Arena *a)
{
    Graph *g = graph_new(a, "small", 4);
    vec_push(a, &g->layers, (Layer){.name = "conv1", .type = "Conv2d"});
    Shape w_shape = shape_of(4, 3, 2, 3, 3), b_shape = shape_of(1, 3);
    ValueId x = node_out(g, graph_add_node(g, OP_INPUT, NULL, 0, NULL, -1, nowhere), 0);
    ValueId w = graph_add_param(g, "conv1.weight", &(ParamAttrs){.init = INIT_UNIFORM, .bound = 0.25, .trainable = true}, &w_shape, 0, nowhere);
    ValueId b = graph_add_param(g, "conv1.bias", &(ParamAttrs){.init = INIT_ZEROS, .trainable = true}, &b_shape, 0, nowhere);
    Attrs conv = {.conv = {.nd = 2, .in_channels = 2, .out_channels = 3, .groups = 1, .kernel = {3, 3}, .stride = {2, 2},
                           .dilation = {1, 1}, .pad_lo = {1, 1}, .pad_hi = {1, 1}, .bias = true}};
    ValueId y = node_out(g, graph_add_node(g, OP_CONV, (ValueId[]){x, w, b}, 3, &conv, 0, nowhere), 0);
    ValueId z = node_out(g, graph_add_node(g, OP_ACT, &y, 1, &(Attrs){.act = {.kind = ACT_LEAKY_RELU, .p = {0.1}}}, -1, nowhere), 0);
    graph_value(g, x)->shape = shape_of(4, 4, 2, 5, 5);
    graph_value(g, y)->shape = graph_value(g, z)->shape = shape_of(4, 4, 3, 3, 3);
    for (int i = 0; i < 3; i++) {
        Value *v = graph_value(g, (ValueId[]){x, y, z}[i]);
        v->known = v->batched = true;
    }
    g->input = x;
    g->output = z;
    return g;
}

static void text_of_a_graph(void **state)
{
    (void)state;
    Arena *a = arena_new();
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    graph_print(small_net(a), f);
    fclose(f);
    assert_string_equal(text, "graph small, batch n <= 4\n"
                              "  %1: f32[n, 2, 5, 5] = input\n"
                              "  %2: f32[3, 2, 3, 3] = param \"conv1.weight\" {uniform=0.25}  # layer \"conv1\"\n"
                              "  %3: f32[3] = param \"conv1.bias\" {zeros}  # layer \"conv1\"\n"
                              "  %4: f32[n, 3, 3, 3] = conv %1 %2 %3 {kernel=(3, 3), stride=(2, 2), pad_lo=(1, 1), pad_hi=(1, 1)}  # layer \"conv1\"\n"
                              "  %5: f32[n, 3, 3, 3] = act %4 - {leaky_relu, negative_slope=0.1}\n"
                              "  input %1, output %5\n");
    free(text);
    arena_free(a);
}

static void copies_are_equal(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Graph *g = small_net(a), *h = graph_like(a, g);
    ValueId *map = NEWN(a, ValueId, g->values.len);
    for (NodeId n = 1; n < g->nodes.len; n++)
        graph_copy_node(h, g, n, map);
    h->input = map[g->input];
    h->output = map[g->output];
    char *text[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        FILE *f = open_memstream(&text[i], &size[i]);
        graph_print(i ? h : g, f);
        fclose(f);
    }
    assert_string_equal(text[0], text[1]);
    free(text[0]);
    free(text[1]);
    arena_free(a);
}

typedef struct { const char *why; void (*damage)(Graph *); } Damage;
static void wrong_size(Graph *g) { graph_value(g, 4)->shape.dim[2] = 2; }
static void wrong_weight(Graph *g) { graph_value(g, 2)->shape.dim[1] = 3; }
static void wrong_order(Graph *g) { graph_node(g, 4)->in[0] = 5; }
static void missing_input(Graph *g) { graph_node(g, 4)->in[1] = 0; }
static void wrong_batch(Graph *g) { graph_value(g, 1)->shape.dim[0] = 5; }
static void wrong_output(Graph *g) { g->output = 99; }
static void wrong_layer(Graph *g) { graph_node(g, 4)->layer = 3; }
static void update_of_a_value(Graph *g) { vec_push(g->arena, &g->updates, (StatePair){5, 5}); }
static void two_updates(Graph *g)
{
    vec_push(g->arena, &g->updates, (StatePair){3, 3});
    vec_push(g->arena, &g->updates, (StatePair){3, 3});
}
static void other_shape_after_act(Graph *g) { graph_value(g, 5)->shape.dim[1] = 4; }

static void damage_is_found(void **state)
{
    (void)state;
    static const Damage damages[] = {
        {"axis 2: 2 from 5, expected 3", wrong_size},
        {"does not suit weight", wrong_weight},
        {"is not defined before", wrong_order},
        {"input 1 is missing", missing_input},
        {"is batched but its first axis is not the batch of 4", wrong_batch},
        {"the output, %99, is not defined", wrong_output},
        {"layer 3 of 1", wrong_layer},
        {"is not a state tensor", update_of_a_value},
        {"%3 is updated twice", two_updates},
        {"input and output differ in shape", other_shape_after_act},
    };
    Arena *a = arena_new();
    const char *why;
    assert_true(graph_verify(small_net(a), &why));
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        Graph *g = small_net(a);
        damages[i].damage(g);
        assert_false(graph_verify(g, &why));
        if (!strstr(why, damages[i].why))
            fail_msg("expected \"%s\", got \"%s\"", damages[i].why, why);
    }
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_of_a_graph),
        cmocka_unit_test(copies_are_equal),
        cmocka_unit_test(damage_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
