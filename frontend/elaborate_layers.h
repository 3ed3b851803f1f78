/* The build functions that ir/layers.def names: each appends the nodes of one layer and returns its output.
 * Private to elaborate_args.c (the table) and elaborate_layers.c. */
#ifndef CNNC_FRONTEND_ELABORATE_LAYERS_H
#define CNNC_FRONTEND_ELABORATE_LAYERS_H
#include "frontend/elaborate_impl.h"

ValueId build_conv(Elab *e, LayerCall *c, ValueId in);
ValueId build_linear(Elab *e, LayerCall *c, ValueId in);
ValueId build_maxpool(Elab *e, LayerCall *c, ValueId in);
ValueId build_avgpool(Elab *e, LayerCall *c, ValueId in);
ValueId build_adaptive(Elab *e, LayerCall *c, ValueId in);
ValueId build_batchnorm(Elab *e, LayerCall *c, ValueId in);
ValueId build_dropout(Elab *e, LayerCall *c, ValueId in);
ValueId build_flatten(Elab *e, LayerCall *c, ValueId in);
ValueId build_identity(Elab *e, LayerCall *c, ValueId in);
ValueId build_softmax(Elab *e, LayerCall *c, ValueId in);
ValueId build_softmax2d(Elab *e, LayerCall *c, ValueId in);
ValueId build_glu(Elab *e, LayerCall *c, ValueId in);
ValueId build_act(Elab *e, LayerCall *c, ValueId in);
ValueId build_gelu(Elab *e, LayerCall *c, ValueId in);
ValueId build_prelu(Elab *e, LayerCall *c, ValueId in);
#endif
