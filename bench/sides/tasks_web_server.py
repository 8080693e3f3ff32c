"""The application with a task that does nothing, served as `quartet serve` does."""

from app.domain.slice import Slice
from app.domain.slices import SLICES
from app.factory import create_app
from app.kit.tasks.context import TaskContext
from app.kit.tasks.task import task
from app.serving.engine import serve_one
from app.settings import load_settings
from bench.sides.app_requests import blueprint


@task()
async def noop(context: TaskContext, number: int) -> int:
    return number


def main() -> None:
    settings = load_settings()
    serve_one(create_app(settings, slices=(*SLICES, Slice(blueprint=blueprint, tasks=(noop,)))), settings)


if __name__ == "__main__":
    main()
