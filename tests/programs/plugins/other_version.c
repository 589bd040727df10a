/* A plug-in of another release. */
const char* apo_plugin_version(void) { return "0.0.9"; }
void apo_plugin_register(void) {}
