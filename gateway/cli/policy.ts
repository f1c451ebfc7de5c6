/** `sallyport policy …`: the policy loop, which is a program of its own. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ClientError, type Command, exitCodes } from "./command.ts";
import { runForeground } from "./run-foreground.ts";

export const policyCommand: Command = {
  name: "policy",
  summary: "Builds, tests, checks and explains policies, and measures the effect of a change.",
  synopsis: "build|test|check|mutate|impact|explain …",
  options: {},
  positionals: { min: 0, max: Number.POSITIVE_INFINITY },
  passThrough: "all",
  async run({ positionals, terminal }) {
    const program = fileURLToPath(new URL("../../scripts/policy/main.ts", import.meta.url));
    if (!existsSync(program))
      throw new ClientError(exitCodes.failed, "internal", "The policy tools are not part of this installation.");
    const environment: Record<string, string> = {};
    for (const [name, value] of Object.entries(terminal.environment))
      if (value !== undefined) environment[name] = value;
    return await runForeground([process.execPath, program, ...positionals], environment);
  },
};
