// Everything, for those who link the library.
#pragma once

#include "understudy/again.h"
#include "understudy/checkpointer.h"
#include "understudy/dtype.h"
#include "understudy/error.h"
#include "understudy/files.h"
#include "understudy/inspect.h"
#include "understudy/mirror.h"
#include "understudy/options.h"
#include "understudy/process.h"
#include "understudy/stager.h"
#include "understudy/system_error.h"
#include "understudy/tensor.h"
#include "understudy/ticket.h"
#include "understudy/value.h"
#include "understudy/version.h"
#include "understudy/waiting.h"
