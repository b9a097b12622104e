// Serves scripted model replies until its standard input ends, so that it never outlives the tests.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0, logLevel: "silent" });
await mock.start();
process.stdout.write(`${mock.url}\n`);
process.stdin.resume().on("end", () => process.exit(0));
