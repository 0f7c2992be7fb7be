// All of molt's public API.
#pragma once

#include "molt/error.h"
#include "molt/generate.h"
#include "molt/model.h"
#include "molt/reducer.h"
#include "molt/reduction.h"
#include "molt/session.h"
#include "molt/state.h"
#include "molt/threads.h"
#include "molt/tokenizer.h"
#include "molt/types.h"
