// A plugin whose method has the name of another one.
#include <molt/reducer.h>

namespace {

const molt::MethodRegistration registration{"utr",
                                            {.summary = "not the utr you know", .make = [](const molt::MethodInput&) {
                                               return std::shared_ptr<const molt::Reducer>();
                                             }}};

}  // namespace
