def run(update, only):
    return 0
