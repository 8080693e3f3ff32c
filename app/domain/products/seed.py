"""Demo products, for a first look."""

from collections.abc import Sequence

from app.domain.products.categories import create_category, list_categories
from app.domain.products.schemas import ProductFields
from app.domain.products.service import create_product
from app.domain.slice import DemoUser
from app.resources import Resources

# By category: name, price, description.
DEMO_PRODUCTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Books": (
        ("A Year of Tides", "18.50", "Twelve essays on the coast, with tide tables drawn by hand."),
        ("Bread for Beginners", "24.00", "Forty loaves, from flat to sour. Lies open on the table by itself."),
        ("The Quiet Signal", "14.90", "A novel about a lighthouse keeper who answers letters meant for others."),
        ("Small Engines, Large Ideas", "32.00", "How ten machines of the last century work, in cut-away drawings."),
        ("Field Guide to City Birds", "21.00", "Ninety species that nest above shops, with their songs in notes."),
    ),
    "Stationery": (
        ("Reporter's Notebook", "4.20", "Spiral bound at the top, 140 ruled pages, fits a coat pocket."),
        ("Fountain Pen, Fine", "38.00", "Steel nib, converter included. Starts at once after a week in a drawer."),
        ("Ink, Harbour Blue", "9.50", "50 ml. Dries in four seconds and can be washed out of cotton."),
        ("Desk Calendar", "12.00", "One week a page, with room for what was not planned."),
        ("Set of Ten Postcards", "6.80", "Bridges of the region, printed on thick cotton paper."),
    ),
    "Kitchen": (
        ("Filter Coffee, 500 g", "11.40", "Medium roast of two farms, ground for paper filters."),
        ("Enamel Jug", "27.50", "One litre, white with a blue rim. Safe on gas and in the oven."),
        ("Bread Knife", "45.00", "24 cm blade with wide teeth, handle of ash wood."),
        ("Salt Cellar", "16.00", "Turned from olive wood, with a lid on a pin."),
        ("Tea Towels, Pair", "13.90", "Half linen, half cotton. They dry glasses without a trace."),
    ),
    "Travel": (
        ("Folding Umbrella", "29.00", "Eight ribs, tested to wind of 90 km/h, 300 g."),
        ("Night Train Blanket", "54.00", "Merino wool, 130 by 180 cm, rolls into its own pocket."),
        ("Canvas Shoulder Bag", "68.00", "Waxed cotton with two inside pockets and a brass buckle."),
        ("Enamel Travel Cup", "15.50", "0.3 litres, with a cork lid that closes tightly."),
        ("Coast Line Map", "8.90", "The railway along the coast, 1:100,000, on paper that does not tear."),
    ),
    "Garden": (
        ("Seed Box, Vegetables", "19.80", "Eight old varieties, with a calendar of sowing."),
        ("Hand Trowel", "22.00", "Forged steel. The blade has a scale in centimetres."),
        ("Watering Can, 9 Litres", "36.50", "Galvanised, with a brass rose for seedlings."),
        ("Bee Hotel", "31.00", "Drilled hardwood for solitary bees; hang it facing south."),
        ("Garden Twine", "5.60", "100 metres of jute, which rots with the plants it held."),
    ),
    "Games": (
        ("Harbour Master", "34.90", "A board game for two to four: bring the ships in before the tide turns."),
        ("Pocket Chess", "26.00", "Magnetic, closes with the pieces in place, 16 cm square."),
        ("Headline", "17.50", "A card game of invented news, for three players or more."),
        ("Wooden Dominoes", "21.50", "28 tiles of beech in a box with a sliding lid."),
        ("Jigsaw, Night Ferry", "23.00", "1,000 pieces after a poster of the old ferry line."),
    ),
    "Audio": (
        ("Desk Radio", "89.00", "DAB and FM, one dial and one knob, walnut case."),
        ("In-ear Headphones", "49.00", "Cable of woven cotton, three sizes of tips."),
        ("Record: Four Instruments", "28.00", "A string quartet recorded in one take in the city library."),
        ("Wall Bracket for Speakers", "18.20", "Steel, turns by 90 degrees, carries 5 kg."),
        ("Microphone for Interviews", "120.00", "Cardioid, with a foam windshield and a stand for the table."),
    ),
    "Repair": (
        ("Bicycle Tool Roll", "42.00", "Twelve tools in waxed canvas, enough for everything but the frame."),
        ("Sewing Kit", "14.00", "Needles, six threads, two patches and a guide to five stitches."),
        ("Precision Screwdrivers", "33.00", "24 bits for glasses, radios and telephones."),
        ("Wood Glue, 250 ml", "7.90", "Sets in twenty minutes. What runs over can be wiped off with water."),
        ("Gift Card, Repair Café", "0.00", "An hour at the bench of the repair café, which is free of charge."),
    ),
}


async def add_demo_products(resources: Resources, users: Sequence[DemoUser]) -> None:
    """The catalogue, together with the demo editor who keeps it. Where there are categories, nothing is added."""
    if not any("editor" in user.roles for user in users) or (await list_categories(resources)).categories:
        return
    for name, products in DEMO_PRODUCTS.items():
        category = await create_category(resources, name)
        for title, price, description in products:
            fields = ProductFields(name=title, description=description, price=price, category_id=category.id)
            await create_product(resources, fields)
