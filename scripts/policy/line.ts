/** The line of a `policy` command: what it does not know is said with the command's usage, and never as a stack. */
import { type ParseArgsConfig, parseArgs } from "node:util";
import { lineProblem } from "../../gateway/cli/command.ts";

/** Shown with the usage, and exit code 2. */
export class WrongLine extends Error {
  readonly usage: string;

  constructor(message: string, usage: string) {
    super(message);
    this.usage = usage;
  }
}

/** As `parseArgs`. @throws WrongLine */
export function parseLine<Config extends ParseArgsConfig>(usage: string, config: Config) {
  try {
    return parseArgs(config);
  } catch (error) {
    throw new WrongLine(lineProblem(error as Error), usage);
  }
}
