/** `sallyport export`: a recording as JSON lines, one event each: the values that the gateway wrote, harmless to a terminal. */
import {
  type Command,
  exitCodes,
  gatewayOptions,
  requirePositional,
  storeOption,
  stringOption,
  UsageError,
} from "./command.ts";
import { withRecordings } from "./recordings.ts";
import { harmlessJson } from "./terminal.ts";

export const exportCommand: Command = {
  name: "export",
  summary: "Writes a recording as JSON lines, one event each.",
  synopsis: "<id> [options]",
  options: {
    format: { type: "string", value: "format", help: "jsonl, the only one" },
    ...gatewayOptions,
    ...storeOption,
  },
  positionals: { min: 1, max: 1 },
  async run(invocation) {
    const format = stringOption(invocation, "format") ?? "jsonl";
    if (format !== "jsonl") throw new UsageError(`there is no format "${format}"; jsonl is the one`);
    return await withRecordings(invocation, async (recordings) => {
      for await (const line of recordings.lines(requirePositional(invocation, 0))) {
        invocation.signal.throwIfAborted();
        invocation.terminal.out(`${harmlessJson(line)}\n`);
      }
      return exitCodes.ok;
    });
  },
};
